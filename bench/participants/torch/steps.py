kinds = {}
