"""Keras on TensorFlow, as the older system used it: `keras_peer.py DIR MODEL EPOCHS`."""

import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
from tensorflow import keras
from tensorflow.keras import layers

from data import mnist, report

folder, model, epochs = sys.argv[1], sys.argv[2], int(sys.argv[3])
x, y, test_x, test_y = mnist(folder)
y, test_y = keras.utils.to_categorical(y, 10), keras.utils.to_categorical(test_y, 10)
if model == "cnn":
    x, test_x = x[..., None], test_x[..., None]


def relu():
    return layers.Dense(128, activation="relu")


def conv(channels):
    return layers.Conv2D(channels, 3, activation="relu")


bodies = {
    "mlp": lambda: [layers.Flatten(), relu(), layers.Dropout(0.2), relu(), layers.Dropout(0.2)],
    "cnn": lambda: [conv(32), layers.MaxPooling2D(2), conv(64), layers.MaxPooling2D(2)]
    + [layers.Flatten(), relu(), layers.Dropout(0.5)],
    "lstm": lambda: [layers.LSTM(128), layers.Dropout(0.2), relu(), layers.Dropout(0.2)],
}
shape = layers.Input(x.shape[1:])
net = keras.Sequential([shape, *bodies[model](), layers.Dense(10, activation="softmax")])
net.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
for epoch in range(1, epochs + 1):
    start = time.perf_counter()
    net.fit(x, y, epochs=1, batch_size=128, verbose=0)
    seconds = time.perf_counter() - start
    report(epoch, seconds, len(x), net.evaluate(test_x, test_y, verbose=0)[1])
