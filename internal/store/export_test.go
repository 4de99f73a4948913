package store

import "github.com/noxaudit/noxaudit/internal/database"

// DB lets tests look at the rows behind the methods.
func (s *Store) DB() *database.DB { return s.db }
