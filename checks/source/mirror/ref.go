package mirror

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/noxaudit/noxaudit/internal/name"
)

const (
	refBytes = 1024 // GitHub allows about a quarter of it
	mostRefs = 1000 // in one call of Fetch
)

// checkRef accepts a full ref name by git's own rules (git-check-ref-format), or a full object id. So no
// option, pattern, refspec or relative name ever reaches git.
func checkRef(ref string) error {
	if name.IsObjectID(ref) {
		return nil
	}
	bad := func(why string) error { return fmt.Errorf("%w: %q %s", ErrRef, said(ref, 80), why) }
	switch {
	case len(ref) > refBytes:
		return bad(fmt.Sprintf("is longer than %d bytes", refBytes))
	case !strings.HasPrefix(ref, "refs/"):
		return bad(`is neither a full object id nor begins with "refs/"`)
	case strings.Contains(ref, ".."), strings.Contains(ref, "@{"):
		return bad(`holds ".." or "@{"`)
	case strings.HasSuffix(ref, "."):
		return bad("ends with a dot")
	}
	for _, c := range []byte(ref) {
		if c <= ' ' || c == 0x7f || strings.IndexByte("~^:?*[\\", c) >= 0 {
			return bad(fmt.Sprintf("holds %q", c))
		}
	}
	for part := range strings.SplitSeq(ref, "/") {
		if part == "" || part[0] == '.' || strings.HasSuffix(part, ".lock") {
			return bad("has an element that is empty, begins with a dot or ends with .lock")
		}
	}
	return nil
}

// keyOf is the name under which a mirror keeps a ref. Names from GitHub never become files: two that differ
// in case, or "a" and "a/b" one after the other, do not meet.
func keyOf(ref string) string {
	sum := sha256.Sum256([]byte(ref))
	return hex.EncodeToString(sum[:20])
}

// said escapes what cannot be shown safely, and clips it.
func said(s string, most int) string {
	clipped := len(s) > most
	if clipped {
		s = s[:most]
	}
	q := strconv.QuoteToGraphic(s)
	q = q[1 : len(q)-1]
	if clipped {
		q += "…"
	}
	return q
}
