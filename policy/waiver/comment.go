package waiver

import "strings"

// Limits of one comment or review body.
const (
	MaxCommands = 5         // command lines, the refused ones among them
	MaxComment  = 256 << 10 // bytes: GitHub's 65,536 characters at their widest
)

// Parsed is what a comment asks for.
type Parsed struct {
	Lines   []Line   // in the order of the comment, at most MaxCommands; none: not for us
	Refusal *Refusal // of the comment as a whole; then Lines is empty and nothing of it acts
}

// Line is one command line: a command, or why it is none.
type Line struct {
	Number  int // in the comment, from 1
	Command Command
	Refusal *Refusal // when set, Command is zero
}

// ParseComment finds the commands in the raw Markdown of a comment or a review body: the lines that begin, in
// their first column, with "/noxaudit". It takes time linear in the body.
//
// A command acts only where every reader sees it as one. Lines inside code (fenced or indented), quotations,
// list items and HTML comments are not commands and are passed over. Where a line may be hidden, or continue
// something that is no plain text (a lazy line of a quotation, a link's title over two lines, a collapsed
// <details>, other HTML left open), it is refused as Misplaced, with what to do instead. In doubt about what
// Markdown makes of a comment, the answer is this refusal.
//
// More than MaxCommands commands refuse the whole comment, at once and in one sentence.
func ParseComment(body string) Parsed {
	if len(body) > MaxComment {
		if !strings.HasPrefix(body, prefix) && !strings.Contains(body, "\n"+prefix) {
			return Parsed{}
		}
		return Parsed{Refusal: refuse(TooLarge, "The comment is larger than %d KiB, so no command in it was read. Write the commands in a comment of their own.", MaxComment>>10)}
	}
	var p Parsed
	m := markdown{blank: true, plain: true}
	for number := 1; body != ""; number++ {
		line := body
		if at := strings.IndexAny(body, "\r\n"); at >= 0 {
			line = body[:at]
			if strings.HasPrefix(body[at:], "\r\n") {
				at++
			}
			body = body[at+1:]
		} else {
			body = ""
		}
		is := addressed(line) && m.text()
		var why string
		if is {
			why = m.doubt()
		}
		m.step(line)
		if !is {
			continue
		}
		if len(p.Lines) == MaxCommands {
			return Parsed{Refusal: refuse(TooMany, "The comment holds more than %d commands, so none of them was carried out. Write at most %d in one comment.", MaxCommands, MaxCommands)}
		}
		l := Line{Number: number}
		if why != "" {
			l.Refusal = refuse(Misplaced, "%s", why)
		} else {
			l.Command, l.Refusal = parse(line)
		}
		p.Lines = append(p.Lines, l)
	}
	return p
}

// addressed reports whether a line speaks to noxaudit, though perhaps misspelt. A path such as
// /noxaudit/docs, or another word that begins alike, does not.
func addressed(line string) bool {
	if len(line) < len(prefix) || !strings.EqualFold(line[:len(prefix)], prefix) {
		return false
	}
	if len(line) == len(prefix) {
		return true
	}
	c := line[len(prefix)]
	return c == ' ' || c == '\t' || c < ' ' || c >= 0x7f
}

// markdown follows the block structure of CommonMark (0.31, with GitHub's extensions) as far as it must to say
// of a line in the first column whether it is text of a paragraph at the top level. Such a line closes every
// list item and quotation around it unless it continues a paragraph in them, so their insides need no
// following; where that is in doubt, the line is refused (doubt).
type markdown struct {
	fence   string // the run of ` or ~ that opened a code block at the top level; empty: none is open
	comment bool   // inside an HTML comment that began as a block
	blank   bool   // nothing is open that the next line could continue
	plain   bool   // since the last blank line, only text that cannot change what the next line means
	html    bool   // since the last blank line, a line began with a tag
	tick    bool   // since the last blank line, a code span was opened and not closed on its line
	list    bool   // a list item may be open
	width   int    // the columns that its content is indented by; of several candidates the greatest
	unsure  bool   // whether it is still open is not known
	details int    // collapsed sections that are open
	lost    bool   // what follows cannot be told to be visible
}

// text reports whether a line in the first column is text, not code and not commented out.
func (m *markdown) text() bool { return m.fence == "" && !m.comment }

// doubt says why a line in the first column might not be seen as a command; empty: it is.
func (m *markdown) doubt() string {
	const alone = " Write it in a comment of its own, or above the HTML."
	switch {
	case m.lost:
		return "HTML or a list earlier in the comment may hide this command from readers." + alone
	case m.details > 0:
		return "This command stands inside a collapsed <details> section, where readers do not see it." + alone
	case !m.plain:
		return "This command continues the lines above it, which hold a quotation, a list, code, a link or HTML. Put an empty line before it."
	}
	return ""
}

// fresh says that the next line begins a block of its own.
func (m *markdown) fresh() { m.blank, m.plain, m.html, m.tick = true, true, false, false }

// step takes one line, without its end.
func (m *markdown) step(line string) {
	indent, rest := indentation(line)
	switch {
	case m.fence != "":
		if indent < 4 && strings.HasPrefix(rest, m.fence) && strings.Trim(strings.TrimLeft(rest, m.fence[:1]), " \t") == "" {
			m.fence = ""
			m.fresh()
		}
		return
	case m.comment:
		if _, after, ok := strings.Cut(line, "-->"); ok {
			m.comment = false
			m.fresh()
			m.tags(after, true)
		}
		return
	case rest == "":
		m.fresh()
		return
	}
	wasBlank := m.blank
	m.blank = false
	if m.list {
		switch {
		case indent >= m.width && !m.unsure:
			m.inside(rest)
			return
		case indent > 0:
			// In the item or below it: a code block or comment that begins here may end elsewhere than it seems.
			inner := contentOf(rest)
			if fenceOf(inner) != "" || strings.HasPrefix(inner, "<!--") {
				m.lost = true
			}
			if w, _, _, ok := marker(rest); ok {
				m.width = max(m.width, indent+w)
			}
			m.unsure = true
			m.inside(rest)
			open := m.details
			m.line(rest)
			m.details = max(open, m.details) // what it closes may not be what is open
			return
		case !wasBlank && !interrupts(rest):
			m.unsure = true // it may continue a paragraph of the item
			m.plain = false
			m.line(rest)
			return
		}
		m.list, m.unsure, m.width = false, false, 0
		if !wasBlank && !m.html {
			m.fresh()
			m.blank = false
		}
	}
	if indent >= 4 {
		if wasBlank {
			m.blank = true // indented code: the next line continues nothing
			return
		}
		m.line(line)
		return
	}
	if f := fenceOf(rest); f != "" {
		if m.html {
			m.lost = true // inside a block of HTML it would be no fence
		}
		m.fence = f
		return
	}
	switch {
	case strings.HasPrefix(rest, "<!--"):
		if _, after, ok := strings.Cut(rest, "-->"); ok {
			if !m.html {
				m.fresh()
			}
			m.tags(after, true)
		} else if m.html {
			m.lost = true // the block of HTML ends before the comment does
		} else {
			m.comment = true
		}
	case rest[0] == '>':
		m.inside(rest)
	case thematic(rest), heading(rest):
		m.tags(rest, false)
		if !m.html {
			m.fresh()
		}
	default:
		if w, content, mayInterrupt, ok := marker(rest); ok {
			m.list, m.width = true, indent+w
			m.unsure = content == "" || m.html || !wasBlank && !mayInterrupt
			m.inside(content)
			return
		}
		if strings.HasPrefix(rest, "[^") { // a footnote holds blocks as a list item does
			m.list, m.width, m.unsure = true, 4, true
		}
		m.line(rest)
	}
}

// line takes a line of a paragraph, or of a block of HTML.
func (m *markdown) line(rest string) {
	if rest[0] == '<' && len(rest) > 1 && (letter(rest[1]) || rest[1] == '/') {
		m.html = true
	}
	if strings.EqualFold(strings.TrimRight(rest, " \t"), "</details>") {
		m.details = max(0, m.details-1)
		m.plain = false
		return
	}
	m.tags(rest, m.html)
	// What may run on into the next line: code spans, HTML, links with their titles, footnotes, formulas, tables.
	if strings.ContainsAny(rest, "`<[$|") {
		m.plain = false
	}
}

// inside takes a line of a list item or a quotation. Whatever it opens ends with the container, except raw HTML
// that begins a block: that reaches the page as it is and may swallow what follows.
func (m *markdown) inside(rest string) {
	m.plain = false
	if m.html {
		m.tags(rest, true) // it may be a line of that block
	}
	rest = contentOf(rest)
	if len(rest) < 2 || rest[0] != '<' || m.lost {
		return
	}
	switch {
	case strings.HasPrefix(rest, "<!--"):
		_, after, ok := strings.Cut(rest, "-->")
		m.lost = !ok || strings.Contains(after, "<!--")
	case rest[1] == '!' || rest[1] == '?':
		m.lost = true
	case letter(rest[1]) || rest[1] == '/':
		m.lost = tagEnd(rest) < 0 || strings.Contains(rest, "<!--")
	}
}

// safeTags neither hide what follows nor show it as code or a quotation, even when left open.
var safeTags = " a b br em h1 h2 h3 h4 h5 h6 hr i img p strong sub summary sup "

// tags looks for HTML in a line at the top level. In raw text, a block of HTML, there are neither code spans nor
// escapes.
func (m *markdown) tags(s string, raw bool) {
	for seen := 0; !m.lost; {
		at := strings.IndexAny(s, "<`\\")
		if at < 0 || at == len(s)-1 {
			m.tick = m.tick || at >= 0 && s[at] == '`'
			return
		}
		s = s[at:]
		switch {
		case s[0] == '\\':
			if !raw && strings.ContainsRune("\\<`", rune(s[1])) {
				s = s[1:] // the escaped character means itself
			}
			s = s[1:]
		case s[0] == '`':
			run := s[:len(s)-len(strings.TrimLeft(s, "`"))]
			s = s[len(run):]
			if raw || m.tick {
				continue
			}
			if end := closingRun(s, len(run)); end >= 0 {
				s = s[end:]
			} else {
				m.tick = true
			}
		default:
			s, seen = m.tag(s), seen+1
			m.lost = m.lost || seen > 100
		}
	}
}

// closingRun is the place after the next run of exactly n backticks, or -1.
func closingRun(s string, n int) int {
	for i := 0; i < len(s); {
		if s[i] != '`' {
			i++
			continue
		}
		j := i
		for j < len(s) && s[j] == '`' {
			j++
		}
		if j-i == n {
			return j
		}
		i = j
	}
	return -1
}

// tag takes what begins at s[0] == '<' and returns what follows it.
func (m *markdown) tag(s string) string {
	switch {
	case strings.HasPrefix(s, "<!--"):
		_, after, ok := strings.Cut(s, "-->")
		m.lost = !ok
		return after
	case s[1] == '!' || s[1] == '?':
		m.lost = true
		return ""
	}
	name, closing := strings.CutPrefix(s[1:], "/")
	n := 0
	for n < len(name) && (letter(name[n]) || n > 0 && (name[n] >= '0' && name[n] <= '9' || name[n] == '-')) {
		n++
	}
	if n == 0 || n < len(name) && !strings.ContainsRune(" \t/>", rune(name[n])) {
		return s[1:] // "a < b", <https://…>, <a@b>
	}
	name = strings.ToLower(name[:n])
	end := tagEnd(s)
	if end < 0 {
		m.lost = true
		return ""
	}
	s = s[end:]
	switch {
	case closing, strings.Contains(safeTags, " "+name+" "):
	case name == "details":
		m.details++
	default:
		m.lost = !strings.Contains(strings.ToLower(s), "</"+name+">")
	}
	return s
}

// tagEnd is the place after the tag that begins s, or -1 when it does not end on this line.
func tagEnd(s string) int {
	var quoted byte
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case quoted != 0:
			if c == quoted {
				quoted = 0
			}
		case c == '"' || c == '\'':
			quoted = c
		case c == '>':
			return i + 1
		}
	}
	return -1
}

func letter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// indentation is the number of columns of white space that begin a line, a tab reaching to the next multiple of
// four, and the rest of the line; the rest of a blank line is empty.
func indentation(line string) (int, string) {
	n := 0
	for i := range len(line) {
		switch line[i] {
		case ' ':
			n++
		case '\t':
			n += 4 - n%4
		default:
			return n, line[i:]
		}
	}
	return n, ""
}

// fenceOf is the run that opens a fenced code block, or nothing.
func fenceOf(rest string) string {
	if !strings.HasPrefix(rest, "```") && !strings.HasPrefix(rest, "~~~") {
		return ""
	}
	info := strings.TrimLeft(rest, rest[:1])
	if rest[0] == '`' && strings.Contains(info, "`") {
		return "" // a code span
	}
	return rest[:len(rest)-len(info)]
}

// marker reads the mark of a list item: the columns to its content, the content, and whether it may interrupt a
// paragraph.
func marker(rest string) (width int, content string, interrupts, ok bool) {
	n := 0
	interrupts = true
	if strings.ContainsRune("-+*", rune(rest[0])) {
		n = 1
	} else {
		for n < len(rest) && n < 10 && rest[n] >= '0' && rest[n] <= '9' {
			n++
		}
		if n == 0 || n == 10 || n == len(rest) || rest[n] != '.' && rest[n] != ')' {
			return 0, "", false, false
		}
		interrupts = strings.TrimLeft(rest[:n], "0") == "1" && n == 1
		n++
	}
	if n < len(rest) && rest[n] != ' ' && rest[n] != '\t' {
		return 0, "", false, false
	}
	spaces, content := indentation(rest[n:])
	if strings.HasPrefix(rest[n:], "\t") {
		spaces = 4 // how far a tab reaches depends on its column; too wide is the careful side
	}
	switch {
	case content == "":
		return n + 1, "", false, true
	case spaces > 4:
		return n + 1, content, interrupts, true
	}
	return n + spaces, content, interrupts, true
}

func thematic(rest string) bool {
	c := rest[:1]
	if c != "-" && c != "*" && c != "_" {
		return false
	}
	return strings.Trim(rest, c+" \t") == "" && strings.Count(rest, c) >= 3
}

func heading(rest string) bool {
	after := strings.TrimLeft(rest, "#")
	n := len(rest) - len(after)
	return n >= 1 && n <= 6 && (after == "" || after[0] == ' ' || after[0] == '\t')
}

// interrupts reports whether a line in the first column surely begins a block of its own.
func interrupts(rest string) bool {
	_, _, may, ok := marker(rest)
	return rest[0] == '>' || fenceOf(rest) != "" || thematic(rest) || heading(rest) || ok && may || strings.HasPrefix(rest, "<!--")
}

// contentOf strips the marks of quotations and list items.
func contentOf(rest string) string {
	for rest != "" {
		if rest[0] == '>' {
			_, rest = indentation(rest[1:])
			continue
		}
		_, content, _, ok := marker(rest)
		if !ok {
			break
		}
		rest = content
	}
	return rest
}
