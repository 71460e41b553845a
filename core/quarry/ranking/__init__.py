"""What a search asks for and by what rules its results are ordered, apart from whoever finds them."""
