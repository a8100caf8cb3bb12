"""Labels as clients save them: the data store, who made them and what it cost."""
