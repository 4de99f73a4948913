// Package store holds the schema of the operational database, one folder of goose SQL files per engine. The
// files of one number create the same tables, columns and keys on both; only the types differ:
//
//   - bytes are BLOB on SQLite and BYTEA on PostgreSQL;
//   - a time is a BIGINT, microseconds since 1970 in UTC: it sorts and compares as a number on both engines,
//     has no zone and no second spelling, and is as fine as PostgreSQL and the ledger are;
//   - text that is sorted or searched by prefix is COLLATE "C" on PostgreSQL, so that both engines sort bytes.
//
// A released file is never edited; a change is a new pair of files.
package store

import "embed"

// FS has the folders "sqlite" and "postgres".
//
//go:embed sqlite/*.sql postgres/*.sql
var FS embed.FS
