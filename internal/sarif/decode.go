package sarif

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
)

// guard passes a document on to the decoder and watches what the decoder does not: the total size and the
// nesting. It also takes a byte order mark away and recognises UTF-16.
type guard struct {
	r        io.Reader
	most     int64
	read     int64
	depth    int
	started  bool
	inString bool
	escaped  bool
	err      error
}

func (g *guard) Read(p []byte) (int, error) {
	if g.err != nil {
		return 0, g.err
	}
	n, err := g.r.Read(p)
	b := p[:n]
	if !g.started && n > 0 {
		g.started = true
		if b, err = g.start(p, n, err); b == nil {
			g.err = err
			return 0, err
		}
	}
	g.read += int64(len(b))
	if g.read > g.most {
		g.err = &LimitError{"bytes", g.most, "let the tool write fewer results, or raise the limit"}
		return 0, g.err
	}
	for _, c := range b {
		switch {
		case g.inString:
			switch {
			case g.escaped:
				g.escaped = false
			case c == '\\':
				g.escaped = true
			case c == '"':
				g.inString = false
			}
		case c == '"':
			g.inString = true
		case c == '{' || c == '[':
			if g.depth++; g.depth > MaxDepth {
				g.err = &LimitError{"nested objects and arrays", MaxDepth, "no tool writes such a file; do not trust it"}
				return 0, g.err
			}
		case c == '}' || c == ']':
			g.depth--
		}
	}
	return len(b), err
}

// start looks at the first bytes. A first read of fewer than three is completed, so that a mark cannot hide
// between two reads.
func (g *guard) start(p []byte, n int, err error) ([]byte, error) {
	if n < 3 && len(p) >= 3 && err == nil {
		var m int
		m, err = io.ReadFull(g.r, p[n:3])
		n += m
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = io.EOF
		}
	}
	b := p[:n]
	if bytes.HasPrefix(b, []byte{0xFF, 0xFE}) || bytes.HasPrefix(b, []byte{0xFE, 0xFF}) || bytes.IndexByte(b, 0) >= 0 {
		return nil, fmt.Errorf("%w: it is UTF-16 or UTF-32 text; write it as UTF-8 (in PowerShell: Out-File -Encoding utf8)", ErrFormat)
	}
	if after, ok := bytes.CutPrefix(b, []byte{0xEF, 0xBB, 0xBF}); ok {
		return p[:copy(p, after)], err
	}
	return b, err
}

// walker reads the few levels of a document that carry its structure token by token, and hands single
// results, rules and the like to encoding/json one at a time.
type walker struct {
	dec *json.Decoder
}

func newWalker(r io.Reader, most int64) *walker {
	return &walker{json.NewDecoder(&guard{r: r, most: most})}
}

func (w *walker) fail(err error) error {
	var limit *LimitError
	if errors.As(err, &limit) || errors.Is(err, ErrFormat) {
		return err
	}
	if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends early, after byte %d; the tool may have been stopped while writing", ErrFormat, w.dec.InputOffset())
	}
	at := w.dec.InputOffset()
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("%w: not JSON after byte %d: %s", ErrFormat, at, syntax)
	}
	return fmt.Errorf("SARIF document: after byte %d: %w", at, err)
}

// open consumes the delimiter ('{' or '['). It reports false, having consumed the value, when the value is
// null, and an error when it is anything else.
func (w *walker) open(want json.Delim, what string) (bool, error) {
	t, err := w.dec.Token()
	if err != nil {
		return false, w.fail(err)
	}
	if t == nil {
		return false, nil
	}
	if t != want {
		kind := "an object"
		if want == '[' {
			kind = "an array"
		}
		return false, fmt.Errorf("%w: %s, before byte %d, is not %s", ErrFormat, what, w.dec.InputOffset(), kind)
	}
	return true, nil
}

// object calls member for each member of an object; member must consume the value. A name in once may
// appear only once. It reports false for null.
func (w *walker) object(what string, once []string, member func(key string) error) (bool, error) {
	ok, err := w.open('{', what)
	if !ok {
		return false, err
	}
	seen := 0
	for w.dec.More() {
		t, err := w.dec.Token()
		if err != nil {
			return false, w.fail(err)
		}
		key, _ := t.(string)
		for i, name := range once {
			if name != key {
				continue
			}
			if seen&(1<<i) != 0 {
				return false, fmt.Errorf("%w: %s has two members %q; which one counts is not for a reader to guess", ErrFormat, what, key)
			}
			seen |= 1 << i
		}
		if err := member(key); err != nil {
			return false, err
		}
	}
	if _, err := w.dec.Token(); err != nil {
		return false, w.fail(err)
	}
	return true, nil
}

// array calls element for each element, which element must consume. It reports false for null.
func (w *walker) array(what string, element func(i int) error) (bool, error) {
	ok, err := w.open('[', what)
	if !ok {
		return false, err
	}
	for i := 0; w.dec.More(); i++ {
		if err := element(i); err != nil {
			return false, err
		}
	}
	if _, err := w.dec.Token(); err != nil {
		return false, w.fail(err)
	}
	return true, nil
}

// value decodes the next value. Members of a wrong type are left at zero.
func (w *walker) value(v any) error {
	err := w.dec.Decode(v)
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return nil
	}
	if err != nil {
		return w.fail(err)
	}
	return nil
}

func (w *walker) skip() error { return w.value(&ignored{}) }

func (w *walker) text() (s string, err error) {
	err = w.value(&s)
	return s, err
}

// The types below are what the members of SARIF look like to encoding/json. Their UnmarshalJSON never
// fails: encoding/json has checked the syntax before, and a wrong type is an absent member.

type ignored struct{}

func (*ignored) UnmarshalJSON([]byte) error { return nil }

// number is a whole number; fractions, strings and what does not fit are 0.
type number int

func (n *number) UnmarshalJSON(b []byte) error {
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > math.MaxInt32 {
		*n = 0
		return nil
	}
	*n = number(f)
	return nil
}

// index points into an array; the zero value points nowhere, as -1 does in SARIF.
type index struct {
	at  int
	set bool
}

func (x *index) UnmarshalJSON(b []byte) error {
	n, err := strconv.Atoi(string(b))
	*x = index{n, err == nil && n >= 0}
	return nil
}

func at[T any](list []T, x index) (zero T, ok bool) {
	if !x.set || x.at >= len(list) {
		return zero, false
	}
	return list[x.at], true
}

// loose is a text, or a number as text: security severities come as both.
type loose string

func (l *loose) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) == nil && len(b) > 0 && b[0] == '"' {
		*l = loose(s)
		return nil
	}
	if len(b) > 0 && (b[0] == '-' || b[0] >= '0' && b[0] <= '9') {
		*l = loose(b)
	}
	return nil
}

// truth is a boolean that knows whether it was there; anything but true counts as false.
type truth struct{ set, value bool }

func (t *truth) UnmarshalJSON(b []byte) error {
	*t = truth{string(b) != "null", string(b) == "true"}
	return nil
}

// few is an array of which only so many elements are kept: one file place needs one location, not the
// million that a hostile file would like to have allocated.
type few[T any] struct {
	items []T
	more  bool
}

const mostFew = 100

func (f *few[T]) UnmarshalJSON(b []byte) error {
	*f = few[T]{}
	dec := json.NewDecoder(bytes.NewReader(b))
	if t, err := dec.Token(); err != nil || t != json.Delim('[') {
		return nil
	}
	for dec.More() {
		if len(f.items) == mostFew {
			f.more = true
			return nil
		}
		var item T
		err := dec.Decode(&item)
		var wrong *json.UnmarshalTypeError
		if err != nil && !errors.As(err, &wrong) {
			return nil
		}
		f.items = append(f.items, item)
	}
	return nil
}

// texts are the message strings of a rule or a tool by name, as many as few keeps.
type texts map[string]string

func (t *texts) UnmarshalJSON(b []byte) error {
	*t = nil
	dec := json.NewDecoder(bytes.NewReader(b))
	if d, err := dec.Token(); err != nil || d != json.Delim('{') {
		return nil
	}
	for dec.More() && len(*t) < mostFew {
		key, err := dec.Token()
		if err != nil {
			return nil
		}
		var m message
		var wrong *json.UnmarshalTypeError
		if err := dec.Decode(&m); err != nil && !errors.As(err, &wrong) {
			return nil
		}
		if *t == nil {
			*t = texts{}
		}
		(*t)[key.(string)] = m.String()
	}
	return nil
}

type message struct {
	Text      string      `json:"text"`
	Markdown  string      `json:"markdown"`
	ID        string      `json:"id"`
	Arguments few[string] `json:"arguments"`
}

func (m message) String() string {
	if m.Text != "" {
		return m.Text
	}
	return m.Markdown
}

type bag struct {
	Tags             few[string] `json:"tags"`
	SecuritySeverity loose       `json:"security-severity"`
	Precision        string      `json:"precision"`
	Severity         string      `json:"severity"`   // ours
	Confidence       loose       `json:"confidence"` // ours
}

type componentRef struct {
	Name  string `json:"name"`
	GUID  string `json:"guid"`
	Index index  `json:"index"`
}

// descriptorRef points at a rule or at an entry of a taxonomy.
type descriptorRef struct {
	ID        string       `json:"id"`
	GUID      string       `json:"guid"`
	Index     index        `json:"index"`
	Component componentRef `json:"toolComponent"`
}

type relationship struct {
	Target descriptorRef `json:"target"`
	Kinds  few[string]   `json:"kinds"`
}

type descriptor struct {
	ID             string  `json:"id"`
	GUID           string  `json:"guid"`
	Name           string  `json:"name"`
	Short          message `json:"shortDescription"`
	Full           message `json:"fullDescription"`
	Help           message `json:"help"`
	HelpURI        string  `json:"helpUri"`
	MessageStrings texts   `json:"messageStrings"`
	Default        struct {
		Level string `json:"level"`
	} `json:"defaultConfiguration"`
	Properties    bag               `json:"properties"`
	Relationships few[relationship] `json:"relationships"`
}

type artifactLocation struct {
	URI   string `json:"uri"`
	Base  string `json:"uriBaseId"`
	Index index  `json:"index"`
}

type location struct {
	Physical *struct {
		Artifact artifactLocation `json:"artifactLocation"`
		Region   struct {
			StartLine   number `json:"startLine"`
			StartColumn number `json:"startColumn"`
			EndLine     number `json:"endLine"`
			EndColumn   number `json:"endColumn"`
		} `json:"region"`
	} `json:"physicalLocation"`
}

type rawResult struct {
	RuleID      string             `json:"ruleId"`
	RuleIndex   index              `json:"ruleIndex"`
	Rule        *descriptorRef     `json:"rule"`
	Kind        string             `json:"kind"`
	Level       string             `json:"level"`
	Message     message            `json:"message"`
	Locations   few[location]      `json:"locations"`
	Taxa        few[descriptorRef] `json:"taxa"`
	Baseline    string             `json:"baselineState"`
	Rank        loose              `json:"rank"`
	Properties  bag                `json:"properties"`
	Suppression few[struct {
		Kind   string `json:"kind"`
		Status string `json:"status"`
	}] `json:"suppressions"`
	Fixes few[struct {
		Description message `json:"description"`
		Changes     few[struct {
			Replacements few[struct {
				Inserted struct {
					Text string `json:"text"`
				} `json:"insertedContent"`
			}] `json:"replacements"`
		}] `json:"artifactChanges"`
	}] `json:"fixes"`
}

type notification struct {
	Level     string        `json:"level"`
	Message   message       `json:"message"`
	Locations few[location] `json:"locations"`
}

type invocation struct {
	Successful    truth             `json:"executionSuccessful"`
	ExitCode      loose             `json:"exitCode"`
	ExitText      string            `json:"exitCodeDescription"`
	StartFailure  string            `json:"processStartFailureMessage"`
	Notifications few[notification] `json:"toolExecutionNotifications"`
}
