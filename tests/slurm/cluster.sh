#!/usr/bin/env bash
# A SLURM cluster whose nodes n1, n2, ... are namespaces of this machine, each with its network address, process ids and
# hostname: in a network that leads nowhere, so that no port collides. It runs until its first process is killed, which
# ends all in it. simulated.py starts it:
#   unshare --mount --net --uts --pid --fork --kill-child --mount-proc cluster.sh FOLDER NODES CPUS
set -euo pipefail
state=$1 nodes=$2 cpus=$3
export SLURM_CONF=$state/slurm.conf
hostname control
ip link set lo up
ip link add switch type bridge
ip address add 10.77.0.254/24 dev switch
ip link set switch up

{ echo "127.0.0.1 localhost"; echo "10.77.0.254 control"; } > "$state/hosts"
cat > "$SLURM_CONF" <<END
ClusterName=simulated
SlurmctldHost=control(10.77.0.254)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# a job that is queued again starts once its credential has expired: after 120 s by default
AuthInfo=socket=$state/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation=$state/controller
SlurmdSpoolDir=$state/%n
SlurmctldPidFile=$state/controller.pid
SlurmdPidFile=$state/%n.pid
SlurmctldLogFile=$state/controller.log
SlurmdLogFile=$state/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=1000
# the nodes claim more processors than this machine has
SlurmdParameters=config_overrides
ReturnToService=2
MpiDefault=none
SwitchType=switch/none
KillWait=30
MinJobAge=3600
SchedulerParameters=bf_interval=2,sched_interval=2,batch_sched_delay=1
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=main Nodes=ALL Default=YES DefaultTime=30 MaxTime=60 PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=ALL DefaultTime=30 MaxTime=60 PriorityTier=10 PreemptMode=OFF
END
for i in $(seq "$nodes"); do
  echo "10.77.0.$i n$i" >> "$state/hosts"
  echo "NodeName=n$i NodeHostname=n$i NodeAddr=10.77.0.$i CPUs=$cpus RealMemory=8000" >> "$SLURM_CONF"
  mkdir -p "$state/n$i"
done
mount --bind "$state/hosts" /etc/hosts
mkdir -p "$state/controller"

(umask 077; head -c 128 /dev/urandom > "$state/munge.key")
munged --force --key-file="$state/munge.key" --socket="$state/munge.socket" --pid-file="$state/munge.pid" \
  --log-file="$state/munge.log" --seed-file="$state/munge.seed"
slurmctld -c
for i in $(seq "$nodes"); do
  unshare --mount --net --uts --pid --fork --kill-child --mount-proc bash -c "
    hostname n$i
    until ip link show cable > /dev/null 2>&1; do sleep 0.1; done
    ip link set lo up
    ip address add 10.77.0.$i/24 dev cable
    ip link set cable up
    ip route add default dev cable
    mount -t tmpfs tmpfs /dev/shm
    slurmd -N n$i
    sleep infinity" &
  outer=$!
  until inner=$(pgrep -P $outer); do sleep 0.1; done
  ip link add "port$i" type veth peer name cable netns "$inner"
  ip link set "port$i" master switch up
done
until [ "$(sinfo -h -N -p main -o %T | grep -c idle)" = "$nodes" ]; do sleep 0.2; done
touch "$state/ready"
sleep infinity
