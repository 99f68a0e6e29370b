"""Networks as a user copies them from torch's documentation: ordinary modules with dropout, noise and batch statistics.

Only the head of `__init__` and the reshaping of inputs are memsweep's. Digits are images of 8 x 8, or 8 steps of 8.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn


class BasicBlock(nn.Module):
    """torchvision's, with dropout between its convolutions."""

    def __init__(self, inplanes, planes, stride=1, downsample=None):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout2d(0.2)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = downsample

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        out = self.dropout(self.relu(self.bn1(self.conv1(x))))
        return self.relu(self.bn2(self.conv2(out)) + identity)


class ResNet(nn.Module):
    def __init__(self, model, input_dim, classes):
        super().__init__()
        self.side, width = math.isqrt(input_dim), model.width
        self.conv1 = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = BasicBlock(width, width)
        downsample = nn.Sequential(nn.Conv2d(width, 2 * width, 1, 2, bias=False), nn.BatchNorm2d(2 * width))
        self.layer2 = BasicBlock(width, 2 * width, 2, downsample)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(2 * width, classes)

    def forward(self, x):
        x = x.reshape(-1, 1, self.side, self.side)
        x = self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x)))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class PositionalEncoding(nn.Module):
    """Of torch's tutorial on nn.Transformer."""

    def __init__(self, d_model, dropout=0.1, max_len=16):
        super().__init__()
        self.dropout = nn.Dropout(p=dropout)
        position = torch.arange(max_len).unsqueeze(1)
        div_term = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
        pe = torch.zeros(max_len, 1, d_model)
        pe[:, 0, 0::2] = torch.sin(position * div_term)
        pe[:, 0, 1::2] = torch.cos(position * div_term)
        self.register_buffer("pe", pe)

    def forward(self, x):
        x = x + self.pe[: x.size(0)]
        return self.dropout(x)


class Transformer(nn.Module):
    """Of the same tutorial: steps first, then the batch, so that dropout sees transposed memory."""

    def __init__(self, model, input_dim, classes):
        super().__init__()
        self.encoder = nn.Linear(8, model.width)
        self.pos_encoder = PositionalEncoding(model.width)
        layer = nn.TransformerEncoderLayer(model.width, nhead=2, dim_feedforward=16, dropout=0.2)
        self.transformer_encoder = nn.TransformerEncoder(layer, model.depth, enable_nested_tensor=False)
        self.decoder = nn.Linear(model.width, classes)

    def forward(self, src):
        src = src.unflatten(-1, (-1, 8)).transpose(0, 1)
        src = self.pos_encoder(self.encoder(src))
        mask = nn.Transformer.generate_square_subsequent_mask(len(src), dtype=src.dtype)
        return self.decoder(self.transformer_encoder(src, mask)[-1])


class GPT(nn.Module):
    """Causal attention by the functional call, noise on its input, and nn.MultiheadAttention with weights."""

    def __init__(self, model, input_dim, classes):
        super().__init__()
        self.enter = nn.Linear(8, 3 * model.width)
        self.attend = nn.MultiheadAttention(model.width, 2, dropout=0.1, batch_first=True)
        self.norm = nn.LayerNorm(model.width)
        self.leave = nn.Linear(model.width, classes)

    def forward(self, x):
        if self.training:
            x = x + 0.1 * torch.randn_like(x)
        query, key, value = self.enter(x.unflatten(-1, (-1, 8))).unflatten(-1, (2, -1)).transpose(1, 2).chunk(3, -1)
        y = F.scaled_dot_product_attention(query, key, value, dropout_p=0.1 if self.training else 0.0, is_causal=True)
        y = y.transpose(1, 2).flatten(2)
        attended, _weights = self.attend(y, y, y)
        return self.leave(self.norm(F.dropout(y, 0.2, self.training) + attended).mean(1))
