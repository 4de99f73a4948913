package web_test

import (
	"html"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
)

// Every page that the pages link to is there.
func TestEveryLinkOfEveryPageLeadsToAPage(t *testing.T) {
	s := northgate(t)
	seen := map[string]bool{}
	queue := []string{"/orgs/northgate"}
	href := regexp.MustCompile(`(?:href|action)="(/[^"]*)`)
	for len(queue) > 0 && len(seen) < 1500 {
		path := queue[0]
		queue = queue[1:]
		if seen[path] || strings.HasPrefix(path, "/auth/") {
			continue
		}
		seen[path] = true
		w := s.do("GET", path)
		if w.Code == http.StatusFound {
			queue = append(queue, w.Header().Get("Location"))
			continue
		}
		if w.Code != http.StatusOK {
			t.Errorf("%s: %d", path, w.Code)
			continue
		}
		if dir := os.Getenv("NOXAUDIT_PAGES"); dir != "" {
			_ = os.WriteFile(dir+"/"+strings.NewReplacer("/", "_", "?", "_").Replace(path)+".html", w.Body.Bytes(), 0o644)
		}
		for _, m := range href.FindAllStringSubmatch(w.Body.String(), -1) {
			to, _, _ := strings.Cut(html.UnescapeString(m[1]), "#")
			queue = append(queue, to)
		}
	}
	t.Logf("%d pages", len(seen))
}
