package store

import (
	"bytes"
	"compress/flate"
	"context"
	"database/sql"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/noxaudit/noxaudit/internal/canon"
	"github.com/noxaudit/noxaudit/internal/finding"
)

// ContentKeyBytes is the length of an account's content key.
const ContentKeyBytes = 32

// ContentKey is the secret under which the contents of this account's findings are digested. The first call
// makes it from random; callers at once, in several processes even, agree on one. It is never changed, and
// never leaves the database but through here.
func (t *Tenant) ContentKey(ctx context.Context, now time.Time, random io.Reader) ([]byte, error) {
	const noun = "content key"
	var key []byte
	if _, err := t.get(ctx, noun, []any{&key}, `SELECT content_key FROM account WHERE account = $1`); err != nil {
		return nil, err
	}
	if key == nil {
		fresh := make([]byte, ContentKeyBytes)
		if _, err := io.ReadFull(random, fresh); err != nil {
			return nil, fmt.Errorf("%s: %w", noun, err)
		}
		err := t.write(ctx, noun, func(w *writer) error {
			return w.query(ctx, noun, func(rows *sql.Rows) error { return rows.Scan(&key) },
				`INSERT INTO account (account, created_at, content_key) VALUES ($1, $2, $3)
				ON CONFLICT (account) DO UPDATE SET content_key = COALESCE(account.content_key, excluded.content_key)
				RETURNING content_key`, now.UnixMicro(), fresh)
		})
		if err != nil {
			return nil, err
		}
	}
	if len(key) != ContentKeyBytes {
		return nil, &CorruptError{Noun: noun, Key: t.account.String(), Cause: fmt.Errorf("%d bytes long", len(key))}
	}
	return key, nil
}

// Details is what the account is called; ErrNotFound before a change named it.
func (t *Tenant) Details(ctx context.Context) (Account, error) {
	var a Account
	var created int64
	found, err := t.get(ctx, "account", []any{&a.Login, &created}, `SELECT login, created_at FROM account WHERE account = $1`)
	if err != nil {
		return Account{}, err
	}
	if !found {
		return Account{}, fmt.Errorf("account %s: %w", t.account, ErrNotFound)
	}
	a.CreatedAt = fromMicros(created)
	return a, nil
}

// Repository is the repository with this id, or ErrNotFound.
func (t *Tenant) Repository(ctx context.Context, id string) (Repository, error) {
	rs, err := t.repositories(ctx, `SELECT `+repositoryColumns+` FROM repository WHERE account = $1 AND id = $2`, id)
	if err != nil {
		return Repository{}, err
	}
	if len(rs) == 0 {
		return Repository{}, fmt.Errorf("repository %q: %w", id, ErrNotFound)
	}
	return rs[0], nil
}

// Line is where a line of history stands. One that is not stored yet has version 0 and is no error.
func (t *Tenant) Line(ctx context.Context, repository, line string) (Line, error) {
	l := Line{Repository: repository, Name: line}
	var head string
	var at sql.NullInt64
	found, err := t.get(ctx, "line", []any{&l.Version, &head, &l.Tree, &at},
		`SELECT version, head, tree, audited_at FROM line WHERE account = $1 AND repository = $2 AND name = $3`, repository, line)
	if err != nil || !found {
		return Line{Repository: repository, Name: line}, err
	}
	if err := l.Head.UnmarshalText([]byte(head)); err != nil {
		return Line{}, &CorruptError{Noun: "line", Key: repository + " " + line, Cause: err}
	}
	if at.Valid {
		l.AuditedAt = fromMicros(at.Int64)
	}
	return l, nil
}

// OpenFindings are the open findings of a line, in canonical order.
func (t *Tenant) OpenFindings(ctx context.Context, repository, line string) ([]finding.Finding, error) {
	var out []finding.Finding
	err := t.query(ctx, "findings", func(rows *sql.Rows) error {
		var fingerprint, content string
		var body sql.RawBytes
		if err := rows.Scan(&fingerprint, &content, &body); err != nil {
			return err
		}
		var f finding.Finding
		err := canon.Unmarshal(body, &f)
		if err == nil && (f.Fingerprint != fingerprint || f.Content != content) {
			err = errors.New("the body is of another finding")
		}
		if err != nil {
			return &CorruptError{Noun: "finding", Key: fingerprint, Cause: err}
		}
		out = append(out, f)
		return nil
	}, `SELECT fingerprint, content, body FROM finding
		WHERE account = $1 AND repository = $2 AND line = $3 AND state = 'open'`, repository, line)
	if err != nil {
		return nil, err
	}
	finding.Sort(out)
	return out, nil
}

// Document is the document of this digest, or ErrNotFound. Its bytes are checked against the digest:
// *CorruptError when they are others.
func (t *Tenant) Document(ctx context.Context, digest string) (Document, error) {
	var p packed
	found, err := t.get(ctx, "document", []any{&p.kind, &p.encoding, &p.size, &p.body},
		`SELECT kind, encoding, size, body FROM document WHERE account = $1 AND digest = $2`, digest)
	if err != nil {
		return Document{}, err
	}
	if !found {
		return Document{}, fmt.Errorf("document %q: %w", digest, ErrNotFound)
	}
	d, err := p.unpack()
	if err == nil && d.Digest() != digest {
		err = errors.New("the bytes have another digest")
	}
	if err != nil {
		return Document{}, &CorruptError{Noun: "document", Key: digest, Cause: err}
	}
	return d, nil
}

// unpack undoes pack. It never makes more bytes than the stored size, which is bound as well: a row that
// other hands wrote cannot blow up the memory.
func (p packed) unpack() (Document, error) {
	if p.size < 0 || p.size > MaxDocumentBytes {
		return Document{}, fmt.Errorf("size %d is out of bounds", p.size)
	}
	body := p.body
	if body == nil {
		body = []byte{} // SQLite's driver returns empty bytes as nil
	}
	if p.encoding == "deflate" {
		body = make([]byte, 0, p.size)
		b := bytes.NewBuffer(body)
		if _, err := io.Copy(b, io.LimitReader(flate.NewReader(bytes.NewReader(p.body)), int64(p.size)+1)); err != nil {
			return Document{}, err
		}
		body = b.Bytes()
	}
	if len(body) != p.size {
		return Document{}, errors.New("the size differs")
	}
	return Document{Kind: p.kind, Body: body}, nil
}

const verdictColumns = `id, repository, line, version, head, base, conclusion, at`

func scanVerdict(rows *sql.Rows) (Verdict, error) {
	var v Verdict
	var head, base string
	var at int64
	if err := rows.Scan(&v.ID, &v.Repository, &v.Line, &v.Version, &head, &base, &v.Conclusion, &at); err != nil {
		return Verdict{}, err
	}
	if err := commits("verdict", v.ID, parse{&v.Head, head}, parse{&v.Base, base}); err != nil {
		return Verdict{}, err
	}
	v.Short, v.Time = ShortVerdict(v.ID), fromMicros(at)
	return v, nil
}

// VerdictByID finds a verdict by its whole digest or by what a person typed, "V-" and 6 to 16 characters of
// Crockford's base 32, the start of the digest. *AmbiguousError when it is the start of several.
func (t *Tenant) VerdictByID(ctx context.Context, id string) (Verdict, error) {
	low, high := id, id
	column := "id"
	if !isDigest(id) {
		prefix, err := parseTyped(id)
		if err != nil {
			return Verdict{}, err
		}
		// "~" sorts after all of the alphabet, so these bounds hold the texts that begin with the prefix.
		low, high, column = prefix, prefix+"~", "short"
	}
	var found []Verdict
	err := t.query(ctx, "verdict", func(rows *sql.Rows) error {
		v, err := scanVerdict(rows)
		found = append(found, v)
		return err
	}, `SELECT `+verdictColumns+` FROM verdict WHERE account = $1 AND `+column+` >= $2 AND `+column+` <= $3
		ORDER BY id LIMIT 10`, low, high)
	switch {
	case err != nil:
		return Verdict{}, err
	case len(found) == 0:
		return Verdict{}, fmt.Errorf("verdict %q: %w", id, ErrNotFound)
	case len(found) > 1:
		e := &AmbiguousError{Noun: "verdict", Prefix: low}
		for _, v := range found {
			e.Candidates = append(e.Candidates, typed(v.ID))
		}
		return Verdict{}, e
	}
	return found[0], nil
}

// Verdicts are the newest verdicts of a repository, the newest first, at most limit.
func (t *Tenant) Verdicts(ctx context.Context, repository string, limit int) ([]Verdict, error) {
	var out []Verdict
	err := t.query(ctx, "verdicts", func(rows *sql.Rows) error {
		v, err := scanVerdict(rows)
		out = append(out, v)
		return err
	}, `SELECT `+verdictColumns+` FROM verdict WHERE account = $1 AND repository = $2
		ORDER BY at DESC, version DESC, id LIMIT $3`, repository, max(limit, 0))
	return out, err
}

var crockford = base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding)

const typedChars = 16

// typed is the start of a digest, 80 bits, in the alphabet that people type.
func typed(digest string) string {
	raw, err := hex.DecodeString(strings.TrimPrefix(digest, "sha256:"))
	if err != nil || len(raw) < 10 {
		return ""
	}
	return "V-" + crockford.EncodeToString(raw[:10])
}

// ShortVerdict is the human form of a verdict's digest: "V-" and 8 characters.
func ShortVerdict(digest string) string {
	s := typed(digest)
	if s == "" {
		return ""
	}
	return s[:len("V-")+8]
}

// parseTyped reads either case, I and L as 1, O as 0.
func parseTyped(s string) (string, error) {
	rest, ok := strings.CutPrefix(strings.ToUpper(strings.TrimSpace(s)), "V-")
	rest = strings.NewReplacer("I", "1", "L", "1", "O", "0").Replace(rest)
	if !ok || len(rest) < 6 || len(rest) > typedChars || strings.Trim(rest, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") != "" {
		if len(s) > 80 {
			s = s[:80]
		}
		return "", fmt.Errorf("verdict %q: %w: want its digest, or V- and 6 to %d characters, such as V-7F3K2QAB", s, ErrNotFound, typedChars)
	}
	return "V-" + rest, nil
}

func isDigest(s string) bool {
	rest, ok := strings.CutPrefix(s, "sha256:")
	return ok && len(rest) == 64 && strings.Trim(rest, "0123456789abcdef") == ""
}
