// Package ledger holds the schema of the ledger's database, one folder of goose SQL files per engine. The
// files of one number create the same tables, columns and keys on both; bytes are BLOB on SQLite and BYTEA on
// PostgreSQL, and text is COLLATE "C" on PostgreSQL, so that both engines compare bytes.
//
// Every table begins with the account whose log it serves. What is evidence (entry, entry_id, checkpoint,
// log_key) only grows: triggers refuse to change or delete a row; what says how much there is of it (log,
// signer_state) changes only upwards. They keep an application's mistakes and a
// stolen application password out; whoever owns the database can drop them, which is why verifying never
// relies on them.
//
// A released file is never edited; a change is a new pair of files.
package ledger

import "embed"

// FS has the folders "sqlite" and "postgres".
//
//go:embed sqlite/*.sql postgres/*.sql
var FS embed.FS
