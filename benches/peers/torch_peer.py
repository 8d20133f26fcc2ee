"""PyTorch, eager: `torch_peer.py DIR MODEL EPOCHS`. The data are tensors in memory; no loader counts against it."""

import sys
import time

import torch
from torch import nn

from data import mnist, report

folder, model, epochs = sys.argv[1], sys.argv[2], int(sys.argv[3])
x, y, test_x, test_y = map(torch.from_numpy, mnist(folder))
BATCH = 128


class Lstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(28, 128, batch_first=True)
        self.head = nn.Sequential(
            nn.Dropout(0.2), nn.Linear(128, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 10)
        )

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])


def build():
    if model == "lstm":
        return Lstm()
    if model == "mlp":
        hidden = [nn.Linear(784, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 128), nn.ReLU(), nn.Dropout(0.2)]
        return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(128, 10))
    blocks = [nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(1600, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10))


torch.manual_seed(0)
net = build()
if model == "cnn":
    x, test_x = x[:, None], test_x[:, None]
optimizer = torch.optim.Adam(net.parameters(), 1e-3, fused=True)
loss = nn.CrossEntropyLoss()
for epoch in range(1, epochs + 1):
    net.train()
    start = time.perf_counter()
    for batch in torch.randperm(len(x)).split(BATCH):
        optimizer.zero_grad(set_to_none=True)
        loss(net(x[batch]), y[batch]).backward()
        optimizer.step()
    seconds = time.perf_counter() - start
    net.eval()
    with torch.no_grad():
        accuracy = (net(test_x).argmax(1) == test_y).float().mean().item()
    report(epoch, seconds, len(x), accuracy)
