"""From a query to a ranked list within its deadline: the arms, the re-rankers, the pages."""
