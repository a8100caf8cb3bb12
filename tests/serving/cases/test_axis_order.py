"""How a client's axes lie on an image's."""

import numpy as np

from slem_app.serving.cases.axis_order import AxisOrder, axis_orders


def test_there_are_48_orders_those_of_nibabel_and_itk_first() -> None:
    orders = list(axis_orders())
    assert len(set(orders)) == len(orders) == 48
    assert orders[:2] == [AxisOrder(), AxisOrder((2, 1, 0))]


def test_arrays_and_indices_go_there_and_back_in_every_order() -> None:
    image = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    for order in axis_orders():
        client = order.to_client(image)
        assert np.array_equal(order.to_image(client), image)
        for index in np.ndindex(client.shape):
            assert image[order.index_to_image(index, image.shape)] == client[index]
