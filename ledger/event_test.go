package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// goldenLine is the format, written out once by hand.
const goldenLine = `{"v":1,"seq":41,"prev":"00000000000000000000000000000000000000000000000000000000000000ff",` +
	`"time":"2026-11-25T09:30:00.123456Z","source":"pull/77/12","sseq":3,` +
	`"id":"019ab3c5-1e40-7abc-8def-0123456789ab","salt":"000102030405060708090a0b0c0d0e0f",` +
	`"type":"waiver.approved","account":"583231",` +
	`"actor":{"kind":"user","id":"1024","name":"Zoë \"Z\" <z@example.org>","via":"comment","onBehalfOf":"9"},` +
	`"subject":{"pull":"12","repository":"4711"},` +
	`"content":{"confidence":0.97,"days":30,"lines":["a\tb\u0001","&"],"none":null,"ok":true}}`

func goldenEvent() Event {
	return Event{
		Time: testStart, Source: "pull/77/12", SSeq: 3, ID: "019ab3c5-1e40-7abc-8def-0123456789ab",
		Salt: "000102030405060708090a0b0c0d0e0f", Type: "waiver.approved", Account: "583231",
		Actor:   Actor{Kind: "user", ID: "1024", Name: `Zoë "Z" <z@example.org>`, Via: "comment", OnBehalfOf: "9"},
		Subject: map[string]string{"repository": "4711", "pull": "12"},
		Content: struct {
			OK         bool     `json:"ok"` // not in the order of the canonical form
			Days       int      `json:"days"`
			Confidence float64  `json:"confidence"`
			Lines      []string `json:"lines"`
			None       any      `json:"none"`
		}{true, 30, 0.97, []string{"a\tb\x01", "&"}, nil},
	}
}

func TestALineIsWrittenAsSpecified(t *testing.T) {
	body, err := goldenEvent().Body()
	if err != nil {
		t.Fatal(err)
	}
	prev := Hash{31: 0xff}
	if got := string(appendLine(nil, 41, prev, body)); got != goldenLine {
		t.Errorf("got  %s\nwant %s", got, goldenLine)
	}
}

func TestALineReadsBackAsItsEvent(t *testing.T) {
	line, err := ParseLine([]byte(goldenLine))
	if err != nil {
		t.Fatal(err)
	}
	want := goldenEvent()
	want.Time = want.Time.Truncate(time.Microsecond)
	want.Content = json.RawMessage(goldenLine[strings.Index(goldenLine, `"content":`)+len(`"content":`) : len(goldenLine)-1])
	if line.Seq != 41 || line.Prev != strings.Repeat("0", 62)+"ff" || !reflect.DeepEqual(line.Event, want) {
		t.Errorf("got  %+v\nwant %+v", line.Event, want)
	}
}

func TestAnEventWithoutOptionalPartsHasAShortLine(t *testing.T) {
	e := goldenEvent()
	e.Actor, e.Subject, e.Content = Actor{Kind: "system"}, nil, nil
	body, err := e.Body()
	if err != nil {
		t.Fatal(err)
	}
	if want := `"actor":{"kind":"system"},"subject":{},"content":null}`; !strings.HasSuffix(string(body), want) {
		t.Errorf("got %s", body)
	}
}

func TestContentHasOneForm(t *testing.T) {
	for _, c := range []struct {
		in   any
		want string
	}{
		{map[string]any{"b": 1, "a": map[string]any{"z": 0, "y": []any{}}}, `{"a":{"y":[],"z":0},"b":1}`},
		{json.RawMessage("{\"b\": 1,\n \"a\": \"\\u00e9\\/\\u003c\"}"), `{"a":"é/<","b":1}`},
		{json.RawMessage(`{"a":1,"a":2}`), `{"a":2}`},
		{json.RawMessage(`[1.50, 1e3, -0, -0.0, 1E-2, 12345678901234567890]`), `[1.5,1000,0,0,0.01,12345678901234567890]`},
		{"\u2028\u007f\x00\x1f\b\f\n\r\t\"\\/", "\"\u2028\u007f\\u0000\\u001f\\b\\f\\n\\r\\t\\\"\\\\/\""},
		{"broken \xff UTF-8", "\"broken \ufffd UTF-8\""},
		{map[string]int{"\"": 1, "!": 2, "\n": 3, "é": 4}, `{"\n":3,"!":2,"\"":1,"é":4}`},
		{[]byte("bytes"), `"Ynl0ZXM="`},
		{nil, `null`},
	} {
		got, err := canonicalContent(c.in)
		if err != nil || string(got) != c.want {
			t.Errorf("%v: got %s, %v; want %s", c.in, got, err, c.want)
		}
	}
	deep := strings.Repeat("[", maxDepth+1) + "1" + strings.Repeat("]", maxDepth+1)
	for what, in := range map[string]any{
		"a channel": make(chan int), "too deep": json.RawMessage(deep),
		"too long a number": json.RawMessage("1e300"), "out of range": json.RawMessage("1e999"),
	} {
		if got, err := canonicalContent(in); err == nil {
			t.Errorf("%s: got %s", what, got)
		}
	}
}

func TestAnEventThatNoLineCouldHoldIsRefused(t *testing.T) {
	for what, change := range map[string]func(*Event){
		"no source":            func(e *Event) { e.Source = "" },
		"a source with spaces": func(e *Event) { e.Source = "pull 1" },
		"a long source":        func(e *Event) { e.Source = strings.Repeat("s", maxToken+1) },
		"sseq 0":               func(e *Event) { e.SSeq = 0 },
		"sseq 2^53":            func(e *Event) { e.SSeq = 1 << 53 },
		"no id":                func(e *Event) { e.ID = "" },
		"a UUIDv4":             func(e *Event) { e.ID = "019ab3c5-1e40-4abc-8def-0123456789ab" },
		"an upper-case id":     func(e *Event) { e.ID = "019AB3C5-1e40-7abc-8def-0123456789ab" },
		"a short salt":         func(e *Event) { e.Salt = "00" },
		"no type":              func(e *Event) { e.Type = "" },
		"a type with a quote":  func(e *Event) { e.Type = `a"b` },
		"no account":           func(e *Event) { e.Account = "" },
		"no actor":             func(e *Event) { e.Actor.Kind = "" },
		"a far year":           func(e *Event) { e.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"content of no form":   func(e *Event) { e.Content = func() {} },
	} {
		e := goldenEvent()
		change(&e)
		if body, err := e.Body(); err == nil {
			t.Errorf("%s: accepted as %s", what, body)
		}
	}
	e := goldenEvent()
	e.Content = strings.Repeat("x", MaxBody)
	if _, err := e.Body(); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	e.Content = ""
	body, _ := e.Body()
	e.Content = strings.Repeat("x", MaxBody-len(body)-1)
	if body, err := e.Body(); err != nil || len(body) != MaxBody-1 {
		t.Errorf("just small enough: %d, %v", len(body), err)
	}
	line := appendLine(nil, maxSeq, Hash{}, append(body[:len(body):len(body)], make([]byte, MaxBody-1-len(body))...))
	if len(line) > 65535 {
		t.Errorf("the longest line has %d bytes and fits into no bundle", len(line))
	}
}

// Cases 17, 19 and 24 of the tamper suite: whatever is written in another way than the canonical one.
func TestTamper17And19And24ALineHasNoSecondSpelling(t *testing.T) {
	swap := func(old, new string) string {
		if !strings.Contains(goldenLine, old) {
			t.Fatalf("the golden line has no %s", old)
		}
		return strings.Replace(goldenLine, old, new, 1)
	}
	for what, line := range map[string]string{
		"a lower version":              swap(`"v":1`, `"v":0`),
		"a higher version":             swap(`"v":1`, `"v":2`),
		"a version as text":            swap(`"v":1`, `"v":"1"`),
		"a version with a zero":        swap(`"v":1`, `"v":01`),
		"another algorithm":            swap(`"prev":"`, `"alg":"md5","prev":"`),
		"a sequence of 2^53":           swap(`"seq":41`, `"seq":9007199254740992`),
		"a sequence of 2^63":           swap(`"seq":41`, `"seq":9223372036854775808`),
		"a sequence of 2^64+41":        swap(`"seq":41`, `"seq":18446744073709551657`),
		"a negative sequence":          swap(`"seq":41`, `"seq":-41`),
		"a leading zero":               swap(`"seq":41`, `"seq":041`),
		"a fraction":                   swap(`"seq":41`, `"seq":41.0`),
		"an exponent":                  swap(`"seq":41`, `"seq":41e0`),
		"an empty sequence":            swap(`"seq":41`, `"seq":`),
		"a short prev":                 swap(`"prev":"00`, `"prev":"`),
		"a long prev":                  swap(`"prev":"00`, `"prev":"0000`),
		"an upper-case prev":           swap(`ff",`, `FF",`),
		"white space":                  swap(`"sseq":3`, `"sseq": 3`),
		"a key repeated":               swap(`"sseq":3,`, `"sseq":3,"sseq":3,`),
		"a key repeated in content":    swap(`"days":30,`, `"days":30,"days":30,`),
		"keys of content out of order": swap(`"days":30,"lines":["a\tb\u0001","&"]`, `"lines":["a\tb\u0001","&"],"days":30`),
		"subject out of order":         swap(`"pull":"12","repository":"4711"`, `"repository":"4711","pull":"12"`),
		"members out of order":         swap(`"type":"waiver.approved","account":"583231"`, `"account":"583231","type":"waiver.approved"`),
		"an unknown member":            swap(`"content":`, `"extra":1,"content":`),
		"an unknown member of actor":   swap(`"via":`, `"role":"x","via":`),
		"an empty member of actor":     swap(`"via":"comment"`, `"via":""`),
		"a missing member":             swap(`"salt":"000102030405060708090a0b0c0d0e0f",`, ``),
		"an escape not needed":         swap(`"&"`, `"\u0026"`),
		"an escaped slash":             swap(`pull/77`, `pull\/77`),
		"an upper-case escape":         swap(`\u0001`, `\U0001`),
		"a long escape":                swap(`\t`, `\u0009`),
		"a bare control character":     swap(`\t`, "\t"),
		"half an escape":               swap(`"&"`, `"\u00"`),
		"broken UTF-8":                 swap(`Zoë`, "Zo\xeb"),
		"an encoded surrogate":         swap(`Zoë`, "Zo\xed\xa0\x80"),
		"an overlong slash":            swap(`Zoë`, "Zo\xc0\xaf"),
		"a number with zeros behind":   swap(`0.97`, `0.970`),
		"a number with an exponent":    swap(`0.97`, `97e-2`),
		"a number with a plus":         swap(`:30`, `:+30`),
		"a negative zero":              swap(`:30`, `:-0`),
		"a bare point":                 swap(`0.97`, `.97`),
		"not a number":                 swap(`0.97`, `NaN`),
		"a date that does not exist":   swap(`2026-11-25`, `2026-02-29`),
		"an hour 24":                   swap(`T09:`, `T24:`),
		"a leap second":                swap(`:00.1`, `:60.1`),
		"a comma for the point":        swap(`00.123456Z`, `00,123456Z`),
		"fewer decimals":               swap(`.123456Z`, `.123Z`),
		"another zone":                 swap(`.123456Z`, `.123456+00:00`),
		"a byte order mark":            "\ufeff" + goldenLine,
		"a carriage return":            goldenLine + "\r",
		"a newline":                    goldenLine + "\n",
		"a space before":               " " + goldenLine,
		"a second object":              goldenLine + "{}",
		"a trailing NUL":               goldenLine + "\x00",
		"cut":                          goldenLine[:len(goldenLine)-1],
		"cut in the prefix":            goldenLine[:40],
		"nothing":                      "",
		"a literal in capitals":        swap(`true`, `True`),
		"too large":                    swap(`"&"`, `"`+strings.Repeat("x", MaxBody)+`"`),
	} {
		if _, err := ParseLine([]byte(line)); err == nil {
			t.Errorf("%s: accepted", what)
		} else if len(err.Error()) > 300 {
			t.Errorf("%s: a message of %d bytes", what, len(err.Error()))
		}
	}
	if _, err := ParseLine([]byte(swap(`2026-11-25`, `2028-02-29`))); err != nil {
		t.Errorf("a leap day: %v", err)
	}
}

func anyContent(depth int) *rapid.Generator[any] {
	leaf := rapid.OneOf(
		rapid.Map(rapid.String(), func(s string) any { return s }),
		rapid.Map(rapid.Int(), func(i int) any { return i }),
		rapid.Map(rapid.IntRange(-1e9, 1e9), func(i int) any { return float64(i) / 1024 }),
		rapid.Map(rapid.Bool(), func(b bool) any { return b }),
		rapid.Just[any](nil),
	)
	if depth == 0 {
		return leaf
	}
	return rapid.OneOf(leaf,
		rapid.Map(rapid.SliceOfN(anyContent(depth-1), 0, 4), func(s []any) any { return s }),
		rapid.Map(rapid.MapOfN(rapid.String(), anyContent(depth-1), 0, 4), func(m map[string]any) any { return m }))
}

// The law of the canonical form: writing what was read gives the same bytes, for any event.
func TestEveryEventHasExactlyOneLine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		random := rand.New(rand.NewSource(rapid.Int64().Draw(t, "seed")))
		at := time.UnixMicro(rapid.Int64Range(0, 1<<47).Draw(t, "time"))
		id, err := NewID(at, random)
		if err != nil {
			t.Fatal(err)
		}
		salt, err := NewSalt(random)
		if err != nil {
			t.Fatal(err)
		}
		e := Event{
			Time: at, Source: rapid.StringMatching(`[!#-\[\]-~]{1,30}`).Draw(t, "source"),
			SSeq: rapid.Uint64Range(1, maxSeq).Draw(t, "sseq"), ID: id, Salt: salt, Type: "a.b", Account: "1",
			Actor:   Actor{Kind: "user", Name: rapid.String().Draw(t, "name"), ID: rapid.String().Draw(t, "actor")},
			Subject: rapid.MapOfN(rapid.String(), rapid.String(), 0, 5).Draw(t, "subject"),
			Content: anyContent(3).Draw(t, "content"),
		}
		body, err := e.Body()
		if err != nil {
			t.Fatal(err)
		}
		line := appendLine(nil, rapid.Uint64Range(0, maxSeq).Draw(t, "seq"), Hash{}, body)
		if !json.Valid(line) || bytes.ContainsAny(line, "\n\r") {
			t.Fatalf("not one line of JSON: %q", line)
		}
		sameAgain(t, line)
	})
}

type fataler interface{ Fatalf(string, ...any) }

// sameAgain demands that a line the strict parser accepts is written back to the byte, and that encoding/json,
// an independent reader, finds the same in it.
func sameAgain(t fataler, line []byte) {
	parsed, err := ParseLine(line)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	body, err := parsed.Event.Body()
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	p, err := parsePrefix(line)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	again := append(append([]byte{}, line[:p.end]...), body[1:]...)
	if !bytes.Equal(again, line) {
		t.Fatalf("read   %s\nwrote  %s", line, again)
	}
	var generic struct {
		V             int
		Seq           uint64
		Prev          string
		Source, ID    string
		SSeq          uint64
		Salt, Type    string
		Account, Time string
		Actor         Actor
		Subject       map[string]string
		Content       any
	}
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&generic); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	if generic.V != 1 || generic.Seq != parsed.Seq || generic.Prev != parsed.Prev || generic.SSeq != parsed.Event.SSeq ||
		generic.ID != parsed.Event.ID || generic.Source != parsed.Event.Source || generic.Actor != parsed.Event.Actor ||
		!reflect.DeepEqual(generic.Subject, parsed.Event.Subject) {
		t.Fatalf("encoding/json reads %+v\nParseLine   reads %+v", generic, parsed)
	}
}

func FuzzParseLine(f *testing.F) {
	f.Add([]byte(goldenLine))
	f.Add([]byte(goldenLine[:100]))
	f.Add([]byte(strings.Replace(goldenLine, `"days":30`, `"\"\\":-1.5`, 1)))
	for _, e := range signedLog(f, 3, 3).entries {
		f.Add(e.Line)
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		if _, err := ParseLine(line); err == nil {
			sameAgain(t, line)
		}
	})
}

// FuzzContent holds the scanner against the other route: decode, encode, compare.
func FuzzContent(f *testing.F) {
	for _, s := range []string{`{"a":1,"b":[true,null,"é\n"]}`, `[0.5,-1,"\u0000"]`, `{"\n":1,"\"":2}`, `{"a":1,"a":2}`, `"\u001f/"`, `-0`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s := scanner{b: b}
		strict := s.value(0) && s.end()
		dec := json.NewDecoder(bytes.NewReader(b))
		dec.UseNumber()
		var generic any
		loose := dec.Decode(&generic) == nil && !dec.More()
		var again []byte
		if loose {
			again, _ = appendValue(nil, generic, 0)
		}
		// Numbers beyond a float's precision are the one thing the second route rounds.
		if same := loose && bytes.Equal(again, b); strict != same && !bytes.ContainsRune(b, '.') {
			t.Errorf("%q: the scanner says %v (%s), re-encoding gives %q", b, strict, s.why, again)
		}
	})
}

func TestIDsAreUUIDv7sOfTheirTime(t *testing.T) {
	id, err := NewID(time.UnixMilli(0x0123456789ab), strings.NewReader(strings.Repeat("\xff", 16)))
	if err != nil || id != "01234567-89ab-7fff-bfff-ffffffffffff" {
		t.Errorf("got %s, %v", id, err)
	}
	if _, err := NewID(time.Unix(-1, 0), rand.New(rand.NewSource(1))); err == nil {
		t.Error("a time before 1970 was accepted")
	}
	if _, err := NewID(testStart, strings.NewReader("short")); err == nil {
		t.Error("a dry random source was accepted")
	}
	if _, err := NewSalt(strings.NewReader("short")); err == nil {
		t.Error("a dry random source was accepted")
	}
	if salt, err := NewSalt(strings.NewReader("0123456789abcdef")); err != nil || salt != "30313233343536373839616263646566" {
		t.Errorf("got %s, %v", salt, err)
	}
}
