package githubsim

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// slice cuts the page a request asks for out of n things, and says where the other pages are.
func (c *call) slice(n int) (from, to int, header http.Header) {
	number := func(name string, otherwise, most int) int {
		v, err := strconv.Atoi(c.query(name))
		if err != nil || v < 1 {
			return otherwise
		}
		return min(v, most)
	}
	size, at := number("per_page", 30, 100), number("page", 1, 1<<30)
	last := max(1, (n+size-1)/size)
	from, to = min((at-1)*size, n), min(at*size, n)
	var links []string
	link := func(page int, rel string) {
		q := c.r.URL.Query()
		q.Set("page", strconv.Itoa(page))
		links = append(links, fmt.Sprintf(`<%s%s?%s>; rel="%s"`, c.base, c.r.URL.EscapedPath(), q.Encode(), rel))
	}
	if at > 1 {
		link(min(at-1, last), "prev")
	}
	if at < last {
		link(at+1, "next")
		link(last, "last")
	}
	if at > 1 {
		link(1, "first")
	}
	if links == nil {
		return from, to, nil
	}
	return from, to, http.Header{"Link": {strings.Join(links, ", ")}}
}

// page answers a page of things as an array.
func page[T any](c *call, all []T, show func(T) object) reply {
	from, to, header := c.slice(len(all))
	out := make([]object, 0, to-from)
	for _, v := range all[from:to] {
		out = append(out, show(v))
	}
	return reply{status: http.StatusOK, body: out, header: header}
}

// pageIn answers a page of things as {"total_count": N, NAME: […]}.
func pageIn[T any](c *call, name string, all []T, show func(T) object) reply {
	r := page(c, all, show)
	r.body = object{"total_count": len(all), name: r.body}
	return r
}
