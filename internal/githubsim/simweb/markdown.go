package simweb

import (
	"bytes"
	"html/template"
	"regexp"

	"github.com/microcosm-cc/bluemonday"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/renderer/html"
	xhtml "golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// As on GitHub the HTML in a Markdown text is rendered, and the whole result then goes through a list of what is allowed.
var (
	toHTML  = goldmark.New(goldmark.WithExtensions(extension.GFM), goldmark.WithRendererOptions(html.WithUnsafe()))
	allowed = allow()
)

func allow() *bluemonday.Policy {
	p := bluemonday.NewPolicy()
	p.AllowElements("h1", "h2", "h3", "h4", "h5", "h6", "p", "br", "hr", "blockquote", "pre", "code", "em", "strong", "del", "sub", "sup", "kbd",
		"ul", "ol", "li", "table", "thead", "tbody", "tr", "th", "td", "details", "summary")
	p.AllowAttrs("open").Matching(regexp.MustCompile(`^$`)).OnElements("details")
	p.AllowAttrs("align").Matching(bluemonday.CellAlign).OnElements("th", "td")
	p.AllowAttrs("href").OnElements("a")
	p.AllowURLSchemes("http", "https")
	p.AllowRelativeURLs(false)
	p.RequireParseableURLs(true)
	p.RequireNoFollowOnLinks(true)
	p.RequireNoReferrerOnLinks(true)
	return p
}

// markdown renders a text of anybody's. Every element in it is closed in it, and what may scroll can be reached by keyboard.
func markdown(text string) template.HTML {
	plain := template.HTML("<pre>" + template.HTMLEscapeString(text) + "</pre>")
	var made, out bytes.Buffer
	if toHTML.Convert([]byte(text), &made) != nil {
		return plain
	}
	nodes, err := xhtml.ParseFragment(allowed.SanitizeReader(&made), &xhtml.Node{Type: xhtml.ElementNode, Data: "div", DataAtom: atom.Div})
	if err != nil {
		return plain
	}
	for _, n := range nodes {
		scrollable(n)
		for below := range n.Descendants() {
			scrollable(below)
		}
		if xhtml.Render(&out, n) != nil {
			return plain
		}
	}
	return template.HTML(out.String())
}

func scrollable(n *xhtml.Node) {
	if n.Type == xhtml.ElementNode && (n.DataAtom == atom.Table || n.DataAtom == atom.Pre) {
		n.Attr = append(n.Attr, xhtml.Attribute{Key: "tabindex", Val: "0"})
	}
}
