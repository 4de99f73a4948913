package waiver

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	rendererhtml "github.com/yuin/goldmark/renderer/html"
	"github.com/yuin/goldmark/text"
	"golang.org/x/net/html"
	"pgregory.net/rapid"
)

const approveIt = "/noxaudit approve W-9QK3TZAB"

// outcome is what became of the lines of a comment: verbs, codes of refusals, or the code of the whole.
func outcome(body string) string {
	p := ParseComment(body)
	if p.Refusal != nil {
		return "all:" + string(p.Refusal.Code)
	}
	var out []string
	for _, l := range p.Lines {
		s := string(l.Command.Verb)
		if l.Refusal != nil {
			s = string(l.Refusal.Code)
		}
		out = append(out, fmt.Sprintf("%d:%s", l.Number, s))
	}
	return strings.Join(out, " ")
}

func TestCommandsAreFoundWhereReadersSeeThem(t *testing.T) {
	for _, c := range []struct{ name, body, want string }{
		{"alone", approveIt, "1:approve"},
		{"with CRLF", "Thanks!\r\n" + approveIt + "\r\n", "2:approve"},
		{"with lone carriage returns", "Thanks!\r" + approveIt, "2:approve"},
		{"after plain text", "Looks fine to me, it's 2 * 3.\n" + approveIt + "\nBye", "2:approve"},
		{"two in a row", approveIt + "\n/noxaudit list", "1:approve 2:list"},
		{"after a closed code block", "```\n" + approveIt + "\n```\n" + approveIt, "4:approve"},
		{"after a quotation and an empty line", "> " + approveIt + "\n\n" + approveIt, "3:approve"},
		{"after a list and an empty line", "- a\n- b\n\n" + approveIt, "4:approve"},
		{"after a list with code", "1. a\n   ```\n   x\n   ```\n2. b\n\n" + approveIt, "7:approve"},
		{"after an HTML comment", "<!-- " + approveIt + "\n" + approveIt + "\n-->\n" + approveIt, "4:approve"},
		{"after a pasted picture", "<img width=\"10\" src=\"https://example.com/a.png\" />\n\n" + approveIt, "3:approve"},
		{"after a closed collapsed section", "<details>\n<summary>log</summary>\n\n```\n<!-- x\n```\n\n</details>\n\n" + approveIt, "10:approve"},
		{"after a code span with a tag", "use `List<String>` there\n\n" + approveIt, "3:approve"},
		{"after a formula of less-than signs", "if a < b and <https://example.com>\n\n" + approveIt, "3:approve"},
		{"after a quoted code block", "> ```\n> if x <y\n> ```\n\n" + approveIt, "5:approve"},
		{"after a heading", "# Decision `x\n" + approveIt, "2:approve"},
		{"after a rule", "a `b\n\n***\n" + approveIt, "4:approve"},
		{"a path", "/noxaudit/docs\n/noxauditor\n/noxaudit.yml", ""},
		{"in the middle of a line", "try " + approveIt, ""},
		{"indented", " " + approveIt + "\n    " + approveIt + "\n\t" + approveIt, ""},
		{"nothing", "", ""},
		{"a bare name", "/noxaudit", "1:unknown-verb"},
		{"in capitals", "/Noxaudit list", "1:spelling"},
		{"a fence that is none", "``` a`b\n\n" + approveIt, "3:approve"},
		{"a longer fence", "````\n```\n" + approveIt + "\n````\n" + approveIt, "5:approve"},
		{"tildes hold backticks", "~~~ `\n```\n" + approveIt + "\n~~~\n" + approveIt, "5:approve"},
		{"a fence with an info string does not close", "```\n``` go\n" + approveIt + "\n```", ""},
		{"a fence indented by four is text", "a\n    ```\n" + approveIt, "3:misplaced"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := outcome(c.body); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestAbuse07AHiddenOrQuotedCommandDoesNotAct(t *testing.T) {
	for _, c := range []struct{ name, body, want string }{
		{"fenced", "```\n" + approveIt + "\n```", ""},
		{"fenced, never closed", "~~~sh\n" + approveIt, ""},
		{"quoted", "> " + approveIt, ""},
		{"quoted twice", "> > " + approveIt, ""},
		{"indented code", "    " + approveIt, ""},
		{"in a list", "- " + approveIt, ""},
		{"an HTML comment", "<!--\n" + approveIt + "\n-->", ""},
		{"an HTML comment, never closed", "<!--\n\n" + approveIt, ""},
		{"a lazy line of a quotation", "> quoted\n" + approveIt, "2:misplaced"},
		{"a lazy line of a list", "- item\n" + approveIt, "2:misplaced"},
		{"a collapsed section", "<details>\n\n" + approveIt + "\n\n</details>", "3:misplaced"},
		{"a collapsed section that seems closed", "<details>\n\n`</details>`\n\n" + approveIt, "5:misplaced"},
		{"a collapsed section closed in code", "<details>\n\n```\n</details>\n```\n\n" + approveIt, "7:misplaced"},
		{"a collapsed section behind an escape", "\\`<details>`\n\n" + approveIt, "3:misplaced"},
		{"a collapsed section in capitals", "x <DETAILS open>\n\n" + approveIt, "3:misplaced"},
		{"a comment inside a line", "see <!--\n\n" + approveIt, "3:misplaced"},
		{"a comment in a quotation", "> <!--\n\n" + approveIt, "3:misplaced"},
		{"a comment after a comment", "<!-- a --> <!-- b\n\n" + approveIt, "3:misplaced"},
		{"a link's title", "[a]: b \"\n" + approveIt + "\n\"", "2:misplaced"},
		{"a code span over lines", "`\n" + approveIt + "\n`", "2:misplaced"},
		{"HTML that may be in a list", "  - b\n  </details>\n~~~\n\n~~~\n" + approveIt, "6:misplaced"},
		{"what seems a list in HTML", "  </details>\n- <details>\n\n" + approveIt, "4:misplaced"},
		{"a footnote", "[^1]: x\n\n    z\n" + approveIt, "4:misplaced"},
		{"HTML under a list", "1. ```\n<p>\n```\n```\n" + approveIt, "5:misplaced"},
		{"a fence below a list", "1. ```\n > q\n   ~~~\n~~~\n~~~\n\n" + approveIt, "7:misplaced"},
		{"a formula", "$$\n" + approveIt + "\n$$", "2:misplaced"},
		{"an attribute", "<img alt=\"\n\n" + approveIt, "3:misplaced"},
		{"a tag that shows code", "<pre>\n\n" + approveIt, "3:misplaced"},
		{"a block of HTML", "<p>\n" + approveIt, "2:misplaced"},
		{"a fence whose end is disputed", "- ```\nb\n  ```\n\n```\n" + approveIt + "\n```", ""},
		{"zero width inside the name", "/nox\u200baudit approve W-9QK3TZAB", ""},
		{"zero width after the name", "/noxaudit\u200b approve W-9QK3TZAB", "1:spelling"},
		{"a homoglyph in the name", "/n\u043exaudit approve W-9QK3TZAB", ""},
		{"a homoglyph in the verb", "/noxaudit \u0430pprove W-9QK3TZAB", "1:characters"},
		{"a homoglyph in the target", "/noxaudit approve W-9QK3TZ\u0410B", "1:characters"},
		{"a homoglyph in a key", "/noxaudit reject W-9QK3TZAB re\u0430son=\"this is long enough\"", "1:characters"},
		{"bidi in a value", "/noxaudit reject W-9QK3TZAB reason=\"this is \u202elong enough\"", "1:characters"},
		{"zero width in a value", "/noxaudit reject W-9QK3TZAB reason=\"this is \u200blong enough\"", "1:characters"},
		{"a Unicode tag in a value", "/noxaudit reject W-9QK3TZAB reason=\"this is \U000e0041long enough\"", "1:characters"},
		{"a terminal's escape in a value", "/noxaudit reject W-9QK3TZAB reason=\"this is \x1b[2Jlong enough\"", "1:characters"},
		{"a NUL in a value", "/noxaudit reject W-9QK3TZAB reason=\"this is \x00long enough\"", "1:characters"},
		{"no UTF-8 in a value", "/noxaudit reject W-9QK3TZAB reason=\"this is \xfflong enough\"", "1:characters"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := outcome(c.body); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestTenThousandCommandsGetOneRefusal(t *testing.T) {
	body := strings.Repeat("/noxaudit list\n", 10_000)
	if got := outcome(body); got != "all:too-many-commands" {
		t.Error(got)
	}
	if n := testing.AllocsPerRun(10, func() { ParseComment(body) }); n > 200 {
		t.Errorf("%v allocations; the sixth command should end the reading", n)
	}
	if got := outcome(strings.Repeat("/noxaudit list\n", MaxCommands)); strings.Count(got, "list") != MaxCommands {
		t.Error(got)
	}
	if got := outcome(strings.Repeat("/noxaudit nonsense\n", MaxCommands+1)); got != "all:too-many-commands" {
		t.Error(got)
	}
	if got := outcome("/noxaudit list\n" + strings.Repeat("x", MaxComment)); got != "all:too-large" {
		t.Error(got)
	}
	if got := outcome(strings.Repeat("x", MaxComment+1)); got != "" {
		t.Error(got)
	}
}

// pathological comments make a careless reader look at the same text again and again.
func pathological(size int) map[string]string {
	fill := func(s string) string { return strings.Repeat(s, size/len(s)) }
	return map[string]string{
		"tags":               fill("<x></x>") + "\n",
		"open tags":          fill("<x "),
		"backticks":          fill("`a``b```c"),
		"comments":           fill("<!-- --> <!--"),
		"comment lines":      fill("<!-- -->\n"),
		"nested quotations":  fill("> ") + "\n" + approveIt,
		"nested lists":       fill("- "),
		"lines of lists":     fill("- - - a\n\n"),
		"blank lines":        "- a" + fill("\n"),
		"fences":             fill("```\n~~~\n"),
		"a long fence":       fill("`"),
		"quotes in a value":  "/noxaudit list " + fill(`a="" `),
		"paths":              fill("/noxaudit/x\n"),
		"commands in code":   "```\n" + fill("/noxaudit list\n"),
		"carriage returns":   fill("\r"),
		"a long mark":        fill("1"),
		"backslashes":        fill("\\`<"),
		"commands in a list": fill("- a\n/noxaudit list\n"),
		"details":            fill("<details>\n\n"),
	}
}

func TestPathologicalCommentsAreReadInOnePass(t *testing.T) {
	for what, body := range pathological(MaxComment - 100) {
		p := ParseComment(body)
		for _, l := range p.Lines {
			if l.Refusal == nil {
				t.Errorf("%s: line %d acts: %s", what, l.Number, l.Command)
			}
		}
	}
}

// BenchmarkParseComment shows by its bytes per second that a comment four times as long takes four times as long.
func BenchmarkParseComment(b *testing.B) {
	for _, size := range []int{16 << 10, 64 << 10, MaxComment - 100} {
		for what, body := range pathological(size) {
			b.Run(fmt.Sprintf("%s/%dKiB", what, size>>10), func(b *testing.B) {
				b.SetBytes(int64(len(body)))
				for b.Loop() {
					ParseComment(body)
				}
			})
		}
	}
}

// seen lists the line numbers that an independent reader of Markdown shows as plain text of a paragraph at the
// top level of the comment. It knows no tables: a line may be the head of one and is as visible there.
func seen(body string) []int {
	src := []byte(body)
	doc := goldmark.New(goldmark.WithExtensions(extension.Strikethrough, extension.TaskList, extension.Linkify, extension.Footnote)).Parser().Parse(text.NewReader(src))
	number := func(at int) int { return 1 + strings.Count(body[:at], "\n") }
	var lines []int
	for n := doc.FirstChild(); n != nil; n = n.NextSibling() {
		if n.Kind() != ast.KindParagraph && n.Kind() != ast.KindHeading {
			continue
		}
		_ = ast.Walk(n, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
			if n.Kind() == ast.KindCodeSpan || n.Kind() == ast.KindRawHTML || n.Kind() == ast.KindImage {
				return ast.WalkSkipChildren, nil
			}
			if s, ok := n.(*ast.Text); ok && entering && (s.Segment.Start == 0 || src[s.Segment.Start-1] == '\n') {
				lines = append(lines, number(s.Segment.Start))
			}
			return ast.WalkContinue, nil
		})
	}
	return lines
}

// fragments are pieces that, put together, make the corners of CommonMark.
var fragments = []string{
	"```", "~~~", "````", "  ```", "   ~~~", "    ```", "- ```", "> ```", "1. ```", "- - ```", "``` go", "``` a`b",
	">", "> q", ">> q", " > q", "- a", "-", "  - b", " - c", "* a", "1. a", "2. b", "10) c", "+\tx", "-     code", "1)",
	"  x", "   y", "    z", "\tt", "      u", "", "", "", " ", "text", "text", "# h", "#h", "---", "***", "===", "- - -",
	"<!--", "-->", "<!-- a -->", " <!--", "  -->", "x <!--", "<!-- a --> <!-- b", "- <!--", "> <!--", "<!-->", "<!--->",
	"<p>", "</p>", "<div>", "</div>", "<details>", "</details>", "<pre>", "</pre>", "<b>", "<img a=\"", "\">", "<a", "<?", "?>",
	"`", "``", "a `b` c", "[a]: b \"", "\"", "[a]", "[^1]: x", "a | b", "--|--", "$$", "\\`", "\\<p>", "<script>", "</script>",
	"/noxaudit list", "/noxaudit list", "/noxaudit list", "/noxaudit list", "/noxaudit list", "/noxaudit nonsense", " /noxaudit list",
}

func TestWhatActsIsAParagraphForAnotherReaderOfMarkdown(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		checkAgainstGoldmark(t, strings.Join(rapid.SliceOfN(rapid.SampledFrom(fragments), 1, 12).Draw(t, "lines"), "\n"))
	})
}

func checkAgainstGoldmark(t interface{ Errorf(string, ...any) }, body string) {
	if strings.ContainsAny(body, "\r\x00") || len(body) > 4096 {
		return // this reader knows other ends of lines
	}
	p := ParseComment(body)
	if len(p.Lines) == 0 {
		return
	}
	visible := seen(body)
	for _, l := range p.Lines {
		if l.Refusal == nil && !slices.Contains(visible, l.Number) {
			t.Errorf("line %d of %q acts, but is no plain text to another reader", l.Number, body)
		}
	}
}

// hiding are the elements in which a reader sees no command: nothing, code, or somebody else's words.
var hiding = strings.Fields("details pre code samp kbd tt blockquote q li script style title textarea xmp iframe noembed noframes noscript plaintext select template svg math head")

// TestWhatActsIsSeenOnThePage asks a Markdown renderer and an HTML parser, as a browser has one, whether every line
// that acts is on the page, in the open. Raw HTML passes the renderer untouched: GitHub's sanitiser would only
// remove from it.
func TestWhatActsIsSeenOnThePage(t *testing.T) {
	md := goldmark.New(
		goldmark.WithExtensions(extension.GFM, extension.Footnote),
		goldmark.WithRendererOptions(rendererhtml.WithUnsafe()))
	pieces := slices.Concat(fragments, []string{
		"<details>", "<details open>", "</details>", "<details", ">", "x <details>", "`<details>`", "`</details>`", "- <details>", "> <details>",
		"  </details>", " <details>", "  <details>", "<summary>x</summary>", "<code>", "</code>", "<a title='", "'>", "<b", "<i title=\"`\">", "`<i",
		"\\<details>", "# <details>", "# x <!--", "--!>", "<DETAILS>", "<blockquote>", "<String>", "<textarea>", "<p><details>", "</p></details>",
		"<img src=x> <details>", "<b>`<details>`</b>", "<b>\\<details>",
	})
	rapid.Check(t, func(t *rapid.T) {
		lines := slices.Clone(rapid.SliceOfN(rapid.SampledFrom(pieces), 1, 12).Draw(t, "lines"))
		for i, l := range lines {
			if l == "/noxaudit list" { // each its own, to be found again
				lines[i] = fmt.Sprintf("/noxaudit explain NX-0000%02d", i)
			}
		}
		body := strings.Join(lines, "\n")
		p := ParseComment(body)
		if len(p.Lines) == 0 {
			return
		}
		var page bytes.Buffer
		if err := md.Convert([]byte(body), &page); err != nil {
			t.Fatal(err)
		}
		doc, err := html.Parse(strings.NewReader("<!DOCTYPE html><body><div>" + page.String() + "</div>"))
		if err != nil {
			t.Fatal(err)
		}
		var open strings.Builder
		var walk func(*html.Node)
		walk = func(n *html.Node) {
			if n.Type == html.ElementNode && slices.Contains(hiding, n.Data) {
				return
			}
			if n.Type == html.TextNode {
				open.WriteString(n.Data)
			}
			for c := n.FirstChild; c != nil; c = c.NextSibling {
				walk(c)
			}
		}
		walk(doc)
		for _, l := range p.Lines {
			if l.Refusal == nil && !strings.Contains(open.String(), l.Command.String()) {
				t.Fatalf("line %d of %q acts, but is not seen in\n%s", l.Number, body, page.String())
			}
		}
	})
}

func FuzzParseComment(f *testing.F) {
	for _, s := range []string{approveIt, "- a\n\n  ```\n" + approveIt, "<details>\n\n" + approveIt, "> a\n" + approveIt, "/noxaudit waive NX-7F3K2Q reason=\"a \\\" b, long enough\" for=2w"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		checkAgainstGoldmark(t, body)
		for _, l := range ParseComment(body).Lines {
			if l.Refusal != nil {
				if _, bad := hiddenIn(l.Refusal.Sentence); bad || len(l.Refusal.Sentence) > 1000 {
					t.Errorf("the sentence %q is not fit to be shown", l.Refusal.Sentence)
				}
				continue
			}
			again, err := Parse(l.Command.String())
			if err != nil || again != l.Command {
				t.Errorf("%+v is written %q and read %+v, %v", l.Command, l.Command.String(), again, err)
			}
		}
	})
}
