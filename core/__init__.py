"""Data, footage, network, solving, review: everything that a solve needs. Never imports bpy, training or the add-on."""
