package githubsim

import (
	"compress/gzip"
	"io"
	"net/http"
	"os/exec"
	"slices"
	"strings"
)

// serveGit speaks git's smart protocol for fetching, stateless over HTTP, protocol versions 0 to 2.
// Pushing is not served: people push through Server.Push.
func (s *Server) serveGit(w http.ResponseWriter, r *http.Request) {
	path, asks := strings.CutSuffix(r.URL.Path, "/info/refs")
	route := "git info/refs"
	if !asks {
		path = strings.TrimSuffix(r.URL.Path, "/git-upload-pack")
		route = "git upload-pack"
	}
	log := Call{At: s.now(), Method: r.Method, Route: route, Path: r.URL.Path, Status: http.StatusOK}
	if p := s.fetch(w, r, strings.TrimSuffix(strings.TrimPrefix(path, "/"), ".git"), &log); p != nil {
		log.Status = p.status
		for name, values := range p.header {
			w.Header()[name] = values
		}
		http.Error(w, p.message, p.status)
	}
	s.record(log)
}

// fetch answers one request of a fetch, or says why not; then nothing has been written.
func (s *Server) fetch(w http.ResponseWriter, r *http.Request, name string, log *Call) *problem {
	plan := s.draw(log.Route)
	if plan.wait(r.Context()) != nil {
		return &problem{status: http.StatusServiceUnavailable, message: "Service Unavailable"}
	}
	log.Fault = plan.kind
	switch {
	case plan.kind == Reset || plan.kind == ResetAfter:
		log.Status = 0
		s.record(*log)
		panic(http.ErrAbortHandler)
	case plan.kind != "":
		return &problem{status: http.StatusInternalServerError, message: "Internal Server Error"}
	case s.isDown():
		return &problem{status: http.StatusServiceUnavailable, message: "Service Unavailable"}
	}
	dir, p := s.mayFetch(r, name, log)
	if p != nil {
		return p
	}
	w.Header().Set("Cache-Control", "no-cache")
	protocol := r.Header.Get("Git-Protocol")
	args := []string{"upload-pack", "--stateless-rpc"}
	var body io.Reader
	if log.Route == "git info/refs" {
		if r.URL.Query().Get("service") != "git-upload-pack" {
			return &problem{status: http.StatusForbidden, message: "Only fetching is served here."}
		}
		w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
		args = append(args, "--http-backend-info-refs")
		if !strings.Contains(protocol, "version=2") {
			io.WriteString(w, "001e# service=git-upload-pack\n0000")
		}
	} else {
		w.Header().Set("Content-Type", "application/x-git-upload-pack-result")
		body = r.Body
		if r.Header.Get("Content-Encoding") == "gzip" {
			z, err := gzip.NewReader(r.Body)
			if err != nil {
				return &problem{status: http.StatusBadRequest, message: "Bad Request"}
			}
			body = z
		}
	}
	cmd := exec.CommandContext(r.Context(), "git", append(args, ".")...)
	cmd.Dir = string(dir)
	cmd.Env = append(slices.Clone(gitEnv), "GIT_PROTOCOL="+protocol)
	cmd.Stdin, cmd.Stdout = body, w
	if cmd.Run() != nil {
		log.Fault = ErrorAfter // the client sees it in the stream
	}
	return nil
}

// mayFetch finds the repository that a request may read. One with a former name is sent on.
func (s *Server) mayFetch(r *http.Request, name string, log *Call) (gitDir, *problem) {
	defer s.lock()()
	target, err := s.repo(name)
	former := err != nil
	if former {
		target = s.repos[s.moved[strings.ToLower(name)]]
	}
	user, password, ok := r.BasicAuth()
	if !ok && target != nil && !target.private && !former {
		return target.git, nil
	}
	t := s.tokens[password]
	if !ok || t == nil || t.user != nil || user != "x-access-token" || t.ended(s.now()) {
		return "", &problem{http.StatusUnauthorized, "Invalid username or token.", http.Header{"Www-Authenticate": {`Basic realm="GitHub"`}}}
	}
	log.Installation, log.App = t.installation.id, t.installation.app.id
	switch {
	case !t.installation.suspended.IsZero():
		return "", &problem{status: http.StatusForbidden, message: "This installation has been suspended"}
	case target == nil || target.private && !t.sees(target):
		return "", &problem{status: http.StatusNotFound, message: "Repository not found."}
	case target.private && !allows(t.permissions["contents"], "read"):
		return "", &problem{status: http.StatusForbidden, message: "Resource not accessible by integration"}
	case former:
		to := s.baseURL + "/" + target.fullName() + ".git" + r.URL.Path[strings.LastIndex(r.URL.Path, ".git")+len(".git"):]
		if r.URL.RawQuery != "" {
			to += "?" + r.URL.RawQuery
		}
		return "", &problem{http.StatusMovedPermanently, "Moved Permanently", http.Header{"Location": {to}}}
	}
	return target.git, nil
}
