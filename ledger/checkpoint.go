package ledger

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Checkpoint says what a log was at a size. Signed, it is the evidence: a note by
// https://c2sp.org/signed-note over the text of https://c2sp.org/tlog-checkpoint.
type Checkpoint struct {
	Origin string // which log: see Origin
	Size   uint64 // entries
	Root   Hash   // of the RFC 6962 tree over their lines
}

// Origin names the log of an account (or of "deployment", the installation itself) for checkpoints.
func Origin(deployment, account string) string { return "noxaudit/" + deployment + "/" + account }

// accountOf is the account that an origin made by Origin names.
func accountOf(origin string) string { return origin[strings.LastIndexByte(origin, '/')+1:] }

// Text is the checkpoint's text, which is what gets signed: origin, size and base64 root, a line each.
func (c Checkpoint) Text() string {
	return c.Origin + "\n" + strconv.FormatUint(c.Size, 10) + "\n" + c.Root.String() + "\n"
}

// ParseCheckpoint reads what Text wrote and nothing else. Extension lines are refused: they would be signed
// without being checkable; what could stand in them belongs into an entry.
func ParseCheckpoint(text string) (Checkpoint, error) {
	lines := strings.SplitN(text, "\n", 4)
	if len(lines) != 4 || lines[3] != "" || lines[0] == "" {
		return Checkpoint{}, errors.New("checkpoint: want three lines: origin, size, root")
	}
	size, err := strconv.ParseUint(lines[1], 10, 64)
	if err != nil || size > maxSeq+1 {
		return Checkpoint{}, errors.New("checkpoint: the size is not a number from 0 to 2^53")
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		return Checkpoint{}, errors.New("checkpoint: the root is not the base64 form of 32 bytes")
	}
	c := Checkpoint{Origin: lines[0], Size: size, Root: root}
	if c.Text() != text {
		return Checkpoint{}, errors.New("checkpoint: not in canonical form")
	}
	if size == 0 && root != EmptyRoot {
		return Checkpoint{}, errors.New("checkpoint: the root of an empty log is the SHA-256 of nothing")
	}
	return c, nil
}

// OpenCheckpoint reads a signed checkpoint of the log that has this origin, and checks that one of the verifier keys, of
// the deployment or of the log, signed it. What it says of the log is then to be compared with the log.
func OpenCheckpoint(origin string, signed []byte, keys []string) (Checkpoint, error) {
	known, err := verifiers(origin, keys)
	if err != nil {
		return Checkpoint{}, err
	}
	return openCheckpoint(signed, known)
}

// openCheckpoint checks the signatures of a signed checkpoint: at least one by a known key, none by a known
// key that is wrong, signatures by other keys ignored.
func openCheckpoint(signed []byte, known note.Verifiers) (Checkpoint, error) {
	n, err := note.Open(signed, known)
	if err != nil {
		return Checkpoint{}, signatureError(err)
	}
	for _, sig := range n.Sigs {
		// x/mod reads base64 leniently; two spellings of one signature must not both pass.
		if _, err := base64.StdEncoding.Strict().DecodeString(sig.Base64); err != nil {
			return Checkpoint{}, errors.New("the signature of " + sig.Name + " is not in canonical base64")
		}
	}
	return ParseCheckpoint(n.Text)
}

// unknownSigner is a note.UnverifiedNoteError in words.
type unknownSigner struct {
	text  string
	cause *note.UnverifiedNoteError
}

func (e *unknownSigner) Error() string { return e.text }
func (e *unknownSigner) Unwrap() error { return e.cause }

func signatureError(err error) error {
	var invalid *note.InvalidSignatureError
	var unverified *note.UnverifiedNoteError
	switch {
	case errors.As(err, &invalid):
		return fmt.Errorf("the signature of %s (key %08x) does not match the checkpoint", invalid.Name, invalid.Hash)
	case errors.As(err, &unverified):
		var by []string
		for _, sig := range unverified.Note.UnverifiedSigs {
			by = append(by, fmt.Sprintf("%s (key %08x)", sig.Name, sig.Hash))
		}
		return &unknownSigner{"no signature by a known key, only by " + strings.Join(by, ", "), unverified}
	}
	return fmt.Errorf("not a signed checkpoint: %w", err)
}
