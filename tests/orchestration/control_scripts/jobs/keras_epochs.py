"""Train a small Keras network for two epochs, logging each."""

import os

import keras
import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
from azureml.core import Run
from sklearn.datasets import load_digits

run = Run.get_context()


class LogRunMetrics(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, log):
        run.log("Loss", float(log["loss"]))
        run.log("Accuracy", float(log["accuracy"]))


X, y = load_digits(return_X_y=True)
model = keras.Sequential(
    [keras.Input((64,)), keras.layers.Dense(32, "relu"), keras.layers.Dense(10, "softmax")]
)
model.compile("rmsprop", "sparse_categorical_crossentropy", metrics=["accuracy"])
history = model.fit(X / 16, y, epochs=2, batch_size=50, verbose=2, callbacks=[LogRunMetrics()])
loss, accuracy = model.evaluate(X / 16, y, verbose=0)
run.log("Final test loss", loss)
run.log("Final test accuracy", accuracy)
plt.plot(history.history["accuracy"])
plt.plot(history.history["loss"])
run.log_image("Accuracy vs Loss", plot=plt)
os.makedirs("outputs/model", exist_ok=True)
with open("outputs/model/model.json", "w") as file:
    file.write(model.to_json())
model.save_weights("outputs/model/model.weights.h5")
