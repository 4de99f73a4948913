// Command cut makes the descriptions that package conform holds exchanges against: of GitHub's OpenAPI description only
// the operations that githubsim serves, of its webhook schemas only the events it sends, both without prose and examples.
//
//	go run ./internal/githubsim/conform/cut OPENAPI.json WEBHOOKS.json internal/githubsim
//
// The first argument is generated/api.github.com.json of the npm package @octokit/openapi, the second schema.json of
// @octokit/webhooks-schemas, the third the folder whose routes.go and conform are meant.
package main

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

type object = map[string]any

func main() {
	log.SetFlags(0)
	if len(os.Args) != 4 {
		log.Fatal("usage: cut OPENAPI.json WEBHOOKS.json FOLDER")
	}
	dir := os.Args[3]
	routes, err := os.ReadFile(filepath.Join(dir, "routes.go"))
	check(err)
	wanted := map[string]bool{}
	for _, m := range regexp.MustCompile(`s\.route\("([A-Z]+) ([^"]+)"`).FindAllStringSubmatch(string(routes), -1) {
		wanted[key(m[1], m[2])] = true
	}
	write(filepath.Join(dir, "conform/testdata/rest.json.gz"), cutREST(read(os.Args[1]), wanted))
	write(filepath.Join(dir, "conform/testdata/webhooks.json.gz"), cutHooks(read(os.Args[2])))
}

// key names an operation whatever its parameters are called.
func key(method, path string) string {
	return strings.ToUpper(method) + " " + regexp.MustCompile(`\{[^}]*\}`).ReplaceAllString(path, "{}")
}

func cutREST(doc object, wanted map[string]bool) object {
	paths := object{}
	for path, item := range doc["paths"].(object) {
		kept := object{}
		for method, op := range item.(object) {
			if wanted[key(method, path)] {
				kept[method] = op
				delete(wanted, key(method, path))
			}
		}
		if len(kept) > 0 {
			paths[path] = kept
		}
	}
	for missing := range wanted {
		log.Printf("not described: %s", missing)
	}
	out := object{"openapi": doc["openapi"], "info": doc["info"], "paths": paths}
	strip(paths)
	components := doc["components"].(object)
	strip(components)
	// The head repository of a pull request is null once it is deleted: the webhook schemas know, this description does not.
	for _, name := range []string{"pull-request", "pull-request-simple"} {
		head := components["schemas"].(object)[name].(object)["properties"].(object)["head"].(object)["properties"].(object)
		head["repo"] = object{"nullable": true, "allOf": []any{head["repo"]}}
	}
	// An installation's account is a user or an enterprise. The list of installations says by mistake that it is both.
	list := paths["/app/installations"].(object)["get"].(object)["responses"].(object)["200"].(object)["content"].(object)
	list["application/json"].(object)["schema"].(object)["items"] = object{"$ref": "#/components/schemas/installation"}
	out["components"] = reach(paths, "#/components/", components, 2)
	return out
}

// events are those that githubsim sends.
var events = []string{"push", "pull_request", "pull_request_review", "merge_group", "check_run", "check_suite", "issue_comment",
	"repository", "member", "membership", "team", "organization", "installation", "installation_repositories"}

func cutHooks(doc object) object {
	definitions := doc["definitions"].(object)
	strip(definitions)
	skippedSuites(definitions)
	roots := object{}
	for name, d := range definitions {
		event, _, action := strings.Cut(name, "$")
		if action && slices.Contains(events, event) {
			roots[name] = d
		}
	}
	kept := reach(roots, "#/definitions/", object{"definitions": definitions}, 1)
	for name, d := range kept {
		roots[name] = d
	}
	return object{"$schema": doc["$schema"], "definitions": roots}
}

// skippedSuites lets a suite be skipped, which the OpenAPI description knows and the webhook schemas do not.
func skippedSuites(v any) {
	switch v := v.(type) {
	case object:
		if list, ok := v["enum"].([]any); ok && slices.Contains(list, any("stale")) && !slices.Contains(list, any("skipped")) {
			v["enum"] = append(list, "skipped")
		}
		for _, child := range v {
			skippedSuites(child)
		}
	case []any:
		for _, child := range v {
			skippedSuites(child)
		}
	}
}

// reach copies what is referred to, from one value on and again. A reference begins with prefix and names depth keys more.
func reach(from any, prefix string, in object, depth int) object {
	out := object{}
	todo := refs(from, nil)
	for len(todo) > 0 {
		ref := todo[0]
		todo = todo[1:]
		parts := strings.Split(strings.TrimPrefix(ref, prefix), "/")
		if !strings.HasPrefix(ref, prefix) || len(parts) != depth {
			log.Fatalf("a reference that cannot be followed: %s", ref)
		}
		src, dst := in, out
		if depth == 1 {
			src = in["definitions"].(object)
		} else {
			src = in[parts[0]].(object)
			if out[parts[0]] == nil {
				out[parts[0]] = object{}
			}
			dst = out[parts[0]].(object)
		}
		name := parts[depth-1]
		if dst[name] == nil {
			dst[name] = src[name]
			todo = refs(src[name], todo)
		}
	}
	return out
}

func refs(v any, found []string) []string {
	switch v := v.(type) {
	case object:
		if ref, ok := v["$ref"].(string); ok {
			found = append(found, ref)
		}
		for _, child := range v {
			found = refs(child, found)
		}
	case []any:
		for _, child := range v {
			found = refs(child, found)
		}
	}
	return found
}

// strip removes prose and examples, which validation does not read, but not a property that bears such a name.
func strip(v any) {
	switch v := v.(type) {
	case object:
		for name, child := range v {
			switch _, text := child.(string); {
			case name == "description" && text, name == "summary" && text:
				if _, response := v["content"]; response || v["headers"] != nil {
					v[name] = "" // a response must have one
				} else if _, schema := v["type"]; schema || v["$ref"] == nil {
					v[name] = ""
				}
			case name == "example" || name == "x-github" || name == "externalDocs" || name == "tsAdditionalProperties":
				if _, schema := child.(object); !schema || name != "example" || child.(object)["type"] == nil {
					delete(v, name)
					continue
				}
			case name == "examples", name == "format" && child == "uri-template": // the validator's idea of a template is too narrow
				delete(v, name)
				continue
			}
			strip(child)
		}
	case []any:
		for _, child := range v {
			strip(child)
		}
	}
}

func read(path string) object {
	raw, err := os.ReadFile(path)
	check(err)
	var doc object
	check(json.Unmarshal(raw, &doc))
	return doc
}

func write(path string, doc object) {
	check(os.MkdirAll(filepath.Dir(path), 0o755))
	raw, err := json.Marshal(doc)
	check(err)
	f, err := os.Create(path)
	check(err)
	z, err := gzip.NewWriterLevel(f, gzip.BestCompression)
	check(err)
	_, err = z.Write(raw)
	check(err)
	check(z.Close())
	check(f.Close())
	fmt.Printf("%s: %d bytes of JSON\n", path, len(raw))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
