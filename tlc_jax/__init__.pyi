from tlc_jax.api import Model as Model
from tlc_jax.api import compress_folder as compress_folder
from tlc_jax.api import load as load
from tlc_jax.core.errors import UserError as UserError
from tlc_jax.inference.text_classifier import Prediction as Prediction

__version__: str
