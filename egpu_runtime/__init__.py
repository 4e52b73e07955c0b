"""The runtime stage: gives every pod a GPU slice and exports quota and use per pod."""
