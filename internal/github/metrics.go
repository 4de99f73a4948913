package github

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics count the calls to GitHub. Labels are bounded: an installation is never one.
type metrics struct {
	requests  *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	remaining *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "github_requests_total",
			Help: "Requests to the GitHub API by what they ask and by the class of the answer (2xx, …; error: none came).",
		}, []string{"class", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "github_request_seconds",
			Help:    "How long one request to the GitHub API took, waiting and repetitions not counted.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"class"}),
		remaining: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "github_rate_remaining",
			Help: "Requests left in the hour, as GitHub last said: of the App itself, and of the installation heard last.",
		}, []string{"bucket"}),
	}
	if r != nil {
		for _, c := range []prometheus.Collector{m.requests, m.duration, m.remaining} {
			if err := r.Register(c); err != nil {
				return nil, fmt.Errorf("github metrics: %w", err)
			}
		}
	}
	return m, nil
}

// record notes one attempt; code 0 means that no answer came.
func (m *metrics) record(class string, code int, took time.Duration) {
	label := "error"
	if code > 0 {
		label = strconv.Itoa(code/100) + "xx"
	}
	m.requests.WithLabelValues(class, label).Inc()
	m.duration.WithLabelValues(class).Observe(took.Seconds())
}

var classes = []struct {
	method string
	path   *regexp.Regexp
	class  string
}{
	{http.MethodPost, regexp.MustCompile(`/access_tokens$`), "token"},
	{http.MethodPost, regexp.MustCompile(`/check-runs$`), "check_create"},
	{http.MethodPatch, regexp.MustCompile(`/check-runs/\d+$`), "check_update"},
	{http.MethodGet, regexp.MustCompile(`/commits/[^/]+/check-runs$`), "check_find"},
	{http.MethodGet, regexp.MustCompile(`/check-runs/\d+/annotations$`), "check_annotations"},
	{http.MethodGet, regexp.MustCompile(`/pulls$`), "pulls"},
	{http.MethodGet, regexp.MustCompile(`/app/installations$`), "installations"},
	{http.MethodGet, regexp.MustCompile(`/installation/repositories$`), "repositories"},
	{http.MethodGet, regexp.MustCompile(`/app/hook/deliveries$`), "deliveries"},
	{http.MethodPost, regexp.MustCompile(`/app/hook/deliveries/\d+/attempts$`), "redeliver"},
	{http.MethodGet, regexp.MustCompile(`/user(/.*)?$`), "person"},
	{http.MethodDelete, regexp.MustCompile(`/applications/[^/]+/token$`), "person"},
}

// classOf names what a request asks for.
func classOf(r *http.Request) string {
	for _, c := range classes {
		if c.method == r.Method && c.path.MatchString(r.URL.Path) {
			return c.class
		}
	}
	return "other"
}
