"""Several labels an image: does AOPC follow the share of images whose labels are all right?"""
