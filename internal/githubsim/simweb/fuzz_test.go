package simweb

import (
	"strings"
	"testing"

	xhtml "golang.org/x/net/html"
)

func FuzzMarkdown(f *testing.F) {
	for _, s := range []string{"### ❌ Blocked\n\n| a | b |\n|---|---|\n| `x` | y |\n", "<details><summary>More</summary>\n\ntext\n\n</details>", "<script>x</script>", "[a](javascript:x)", "<svg onload=x>", "![a](http://x/y.png)", "<a href=\"http://x\" onclick=x>", "</div></main>", "</details></section>", "<details><summary>", "<table><tr><td>x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		root, err := xhtml.Parse(strings.NewReader("<main><p>before</p><section>" + string(markdown(text)) + "</section><footer>after</footer></main>"))
		if err != nil {
			t.Fatal(err)
		}
		for n := range root.Descendants() {
			if n.Type != xhtml.ElementNode {
				continue
			}
			if n.Data == "footer" && n.Parent.Data != "main" {
				t.Errorf("%q breaks out of where it is shown", text)
			}
			switch n.Data {
			case "script", "style", "img", "iframe", "form", "svg", "math", "object", "input", "button", "link", "meta", "base":
				t.Errorf("%q becomes <%s>", text, n.Data)
			}
			for _, a := range n.Attr {
				v := strings.ToLower(a.Val)
				if strings.HasPrefix(a.Key, "on") || a.Key == "style" || a.Key == "id" || a.Key == "class" ||
					a.Key == "href" && !strings.HasPrefix(v, "http://") && !strings.HasPrefix(v, "https://") {
					t.Errorf("%q becomes %s=%q", text, a.Key, a.Val)
				}
			}
		}
	})
}

func FuzzDiff(f *testing.F) {
	f.Add("@@ -1,2 +1,3 @@ func\n a\n-b\n+c\n+d\n\\ No newline at end of file\n")
	f.Add("@@ -a +,\n@@")
	f.Fuzz(func(t *testing.T, patch string) {
		for _, l := range lines(patch) {
			if l.Kind == "" || strings.ContainsAny(l.Text, "\n") {
				t.Errorf("%q: %+v", patch, l)
			}
		}
	})
}
