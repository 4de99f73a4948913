// Package conform holds what goes to and fro between a client and githubsim against GitHub's own descriptions: REST
// exchanges against the published OpenAPI description, webhook payloads against the published JSON schemas. It is for
// tests: a client that passes here sends what GitHub would take, and the simulator answers as GitHub would.
//
//	conform.Check(t, sim)                              // every REST exchange from now on
//	httptest.NewServer(conform.Hooks(t, receiver))     // every webhook that arrives
//
// The descriptions are cut down to what githubsim serves (see testdata/README.md) and compiled when first needed.
package conform

import (
	"bytes"
	"compress/gzip"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/noxaudit/noxaudit/internal/githubsim"
)

//go:embed testdata/rest.json.gz testdata/webhooks.json.gz
var descriptions embed.FS

// Check fails the test for every REST exchange that GitHub's description does not allow: a request that was accepted
// although it is not valid, an answer of another shape, an error that is not GitHub's. Exchanges that a fault spoiled
// are not looked at. It ends with the test.
func Check(t testing.TB, s *githubsim.Server) {
	var mu sync.Mutex
	over := false
	t.Cleanup(func() {
		s.Observe(nil)
		mu.Lock()
		defer mu.Unlock()
		over = true
	})
	s.Observe(func(x githubsim.Exchange) {
		err := Exchange(x)
		mu.Lock()
		defer mu.Unlock()
		if err != nil && !over {
			t.Errorf("%s %s answered %d: %v", x.Request.Method, x.Path, x.Status, err)
		}
	})
}

// Hooks checks every webhook on its way to a receiver.
func Hooks(t testing.TB, next http.Handler) http.Handler {
	var mu sync.Mutex
	over := false
	t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		over = true
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		payload, err := io.ReadAll(r.Body)
		if err != nil { // broken off
			return
		}
		err = Webhook(r.Header.Get("X-GitHub-Event"), payload)
		mu.Lock()
		if err != nil && !over {
			t.Errorf("webhook %s: %v\n%s", r.Header.Get("X-GitHub-Event"), err, payload)
		}
		mu.Unlock()
		r.Body = io.NopCloser(bytes.NewReader(payload))
		next.ServeHTTP(w, r)
	})
}

var parameter = regexp.MustCompile(`\{[^}]*\}`)

// description is GitHub's, by "METHOD /path/{}".
var description = sync.OnceValues(func() (map[string]*routers.Route, error) {
	raw, err := unpack("testdata/rest.json.gz")
	if err != nil {
		return nil, err
	}
	doc, err := openapi3.NewLoader().LoadFromData(raw)
	if err != nil {
		return nil, err
	}
	all := map[string]*routers.Route{}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			all[method+" "+parameter.ReplaceAllString(path, "{}")] = &routers.Route{Spec: doc, Path: path, PathItem: item, Method: method, Operation: op}
		}
	}
	return all, nil
})

func unpack(name string) ([]byte, error) {
	raw, err := descriptions.ReadFile(name)
	if err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}

// Exchange checks one REST exchange.
func Exchange(x githubsim.Exchange) error {
	if x.Fault != "" && x.Fault != githubsim.Slow {
		return nil
	}
	if x.Route == "" {
		return errors.New("conform: not an operation that githubsim serves")
	}
	known, err := description()
	if err != nil {
		return fmt.Errorf("conform: %w", err)
	}
	route, ok := known[parameter.ReplaceAllString(x.Route, "{}")]
	if !ok {
		return fmt.Errorf("conform: %s is not in GitHub's description", x.Route)
	}
	if x.Status >= 400 {
		return refusal(x)
	}
	in := &openapi3filter.RequestValidationInput{
		Request:    x.Request.Clone(context.Background()),
		PathParams: pathParams(route.Path, x.Path),
		Route:      route,
		Options:    &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true},
	}
	in.Request.URL = &url.URL{Path: x.Path, RawQuery: x.Request.URL.RawQuery}
	in.Request.Body = io.NopCloser(bytes.NewReader(x.RequestBody))
	if len(x.RequestBody) > 0 && in.Request.Header.Get("Content-Type") == "" {
		return errors.New("conform: request: a body without a Content-Type")
	}
	if err := openapi3filter.ValidateRequest(context.Background(), in); err != nil {
		return fmt.Errorf("conform: request: %s", brief(err))
	}
	if x.Status == http.StatusNotModified || x.Status == http.StatusMovedPermanently || x.Status == http.StatusTemporaryRedirect {
		return nil
	}
	err = openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: x.Status, Header: x.Header, Body: io.NopCloser(bytes.NewReader(x.ResponseBody)), Options: in.Options,
	})
	if err != nil {
		return fmt.Errorf("conform: answer: %s", brief(err))
	}
	return nil
}

// brief leaves out the schema and the value, which fill pages.
func brief(err error) string {
	text, _, _ := strings.Cut(err.Error(), "\nSchema:")
	return text
}

// refusal checks an error: GitHub describes few of them by operation, but all have one of two shapes.
func refusal(x githubsim.Exchange) error {
	var e struct {
		Message, Status  string
		DocumentationURL string `json:"documentation_url"`
		Errors           []struct{ Resource, Field, Code string }
	}
	if err := json.Unmarshal(x.ResponseBody, &e); err != nil {
		return fmt.Errorf("conform: error: %w", err)
	}
	if e.Message == "" || e.DocumentationURL == "" || e.Status != fmt.Sprint(x.Status) {
		return fmt.Errorf("conform: error: not GitHub's shape: %s", x.ResponseBody)
	}
	for _, one := range e.Errors {
		if one.Resource == "" || one.Code == "" {
			return fmt.Errorf("conform: error: without resource or code: %s", x.ResponseBody)
		}
	}
	return nil
}

// pathParams reads the values of a template's parameters; one may stand for several segments.
func pathParams(template, path string) map[string]string {
	if rest, renamed := strings.CutPrefix(path, "/repositories/"); renamed {
		_, end, _ := strings.Cut(rest, "/")
		path = strings.TrimSuffix("/repos/o/r/"+end, "/")
	}
	names := parameter.FindAllString(template, -1)
	pattern := regexp.QuoteMeta(template)
	for i, name := range names {
		part := "([^/]+)"
		if i == len(names)-1 && strings.HasSuffix(template, name) {
			part = "(.*)"
		}
		pattern = strings.Replace(pattern, regexp.QuoteMeta(name), part, 1)
	}
	values := map[string]string{}
	if m := regexp.MustCompile("^" + pattern + "$").FindStringSubmatch(path); m != nil {
		for i, name := range names {
			if m[i+1] == "" {
				m[i+1] = "." // the root folder, which GitHub serves and does not describe
			}
			values[strings.Trim(name, "{}")] = m[i+1]
		}
	}
	return values
}

var schemas = sync.OnceValues(func() (*compiled, error) {
	raw, err := unpack("testdata/webhooks.json.gz")
	if err != nil {
		return nil, err
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	c := &compiled{compiler: jsonschema.NewCompiler(), done: map[string]*jsonschema.Schema{}}
	return c, c.compiler.AddResource(schemaURL, doc)
})

const schemaURL = "https://schemas.invalid/webhooks.json"

// compiled are the schemas that were needed so far.
type compiled struct {
	mu       sync.Mutex
	compiler *jsonschema.Compiler
	done     map[string]*jsonschema.Schema
}

func (c *compiled) schema(name string) (*jsonschema.Schema, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.done[name]; s != nil {
		return s, nil
	}
	s, err := c.compiler.Compile(schemaURL + "#/definitions/" + url.PathEscape(name))
	if err == nil {
		c.done[name] = s
	}
	return s, err
}

// Webhook checks a payload against the schema of its event and action.
func Webhook(event string, payload []byte) error {
	all, err := schemas()
	if err != nil {
		return fmt.Errorf("conform: %w", err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(payload))
	if err != nil {
		return fmt.Errorf("conform: %w", err)
	}
	body, _ := v.(map[string]any)
	name := event + "$event"
	if action, ok := body["action"].(string); ok {
		name = event + "$" + action
	}
	s, err := all.schema(name)
	if err != nil {
		return fmt.Errorf("conform: %s is not in GitHub's schemas: %w", name, err)
	}
	if err := s.Validate(v); err != nil {
		return fmt.Errorf("conform: %w", err)
	}
	return nil
}
