package demo

import (
	"embed"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"golang.org/x/tools/txtar"

	"github.com/noxaudit/noxaudit/internal/githubsim"
)

//go:embed story/*.txtar
var story embed.FS

// step is one file of the story: a commit from before the App, a pull request, or a push onto one.
type step struct {
	kind        string // commit, pull or push
	text        string // the commit's message, the pull request's title
	repo        string
	description string // of the repository, in its first commit
	private     bool
	branch      string
	by          string
	day, hours  int // counted from today
	fork        bool
	body        string
	review      string // who approves it
	merge       string // who merges it
	close       string // who closes it
	ask         string // the arguments of the waiver that the author asks for
	approve     string // who approves it
	reject      string // who rejects it, and with which arguments
	key         string // under which the pull request is found again
	files       githubsim.Files
}

// at is when the step happens, for somebody who lives now. Steps of today are in the last hour.
func (s step) at(now time.Time) time.Time {
	if s.day == 0 {
		return now.Add(-40 * time.Minute)
	}
	day := now.UTC().Truncate(24*time.Hour).AddDate(0, 0, s.day)
	return day.Add(9*time.Hour + time.Duration(s.hours)*time.Hour + 17*time.Minute)
}

// readStory reads all steps in their order.
func readStory() ([]step, error) {
	names, err := fs.Glob(story, "story/*.txtar")
	if err != nil {
		return nil, err
	}
	var all []step
	for _, name := range names {
		raw, err := story.ReadFile(name)
		if err != nil {
			return nil, err
		}
		s, err := parseStep(raw)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, s)
	}
	return all, nil
}

func parseStep(raw []byte) (step, error) {
	archive := txtar.Parse(raw)
	s := step{files: githubsim.Files{}}
	for line := range strings.Lines(string(archive.Comment)) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		key, value, _ := strings.Cut(line, ": ")
		var err error
		switch key {
		case "commit", "pull", "push":
			s.kind, s.text = key, value
		case "repo":
			s.repo = value
		case "description":
			s.description = value
		case "private":
			s.private = value == "yes"
		case "branch":
			s.branch = value
		case "by":
			s.by = value
		case "day":
			s.day, err = strconv.Atoi(value)
		case "hours":
			s.hours, err = strconv.Atoi(value)
		case "fork":
			s.fork = value == "yes"
		case "body":
			s.body = value
		case "review":
			s.review = value
		case "merge":
			s.merge = value
		case "close":
			s.close = value
		case "ask":
			s.ask = value
		case "approve":
			s.approve = value
		case "reject":
			s.reject = value
		case "key":
			s.key = value
		default:
			err = fmt.Errorf("no such line: %q", line)
		}
		if err != nil {
			return s, err
		}
	}
	for _, f := range archive.Files {
		s.files[f.Name] = withKeys(string(f.Data))
	}
	return s, nil
}

// withKeys puts the keys that people leak where the story has a placeholder. They are in no file of this repository, and
// they open nothing.
func withKeys(text string) string {
	return strings.NewReplacer(
		"{{key:stripe}}", "sk"+"_live_"+madeUp(24, 1),
		"{{key:stripe-test}}", "sk"+"_test_"+madeUp(24, 2),
		"{{key:aws}}", awsKey(3),
		"{{key:aws-2}}", awsKey(10),
		"{{key:slack-2}}", slackToken(11),
		"{{password}}", madeUp(14, 12),
		"{{key:gcp}}", "AI"+"za"+madeUp(35, 4),
		"{{key:gcp-2}}", "AI"+"za"+madeUp(35, 5),
		"{{key:slack}}", slackToken(6),
	).Replace(text)
}

func awsKey(seed uint64) string {
	return "AK" + "IA" + drawn("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16, seed)
}

func slackToken(seed uint64) string {
	const digits = "0123456789"
	return "xo" + "xb-" + drawn(digits, 12, seed) + "-" + drawn(digits, 12, seed+100) + "-" + madeUp(24, seed+200)
}

// madeUp is n letters and digits that look random and are always the same.
func madeUp(n int, seed uint64) string {
	return drawn("abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ0123456789", n, seed)
}

func drawn(alphabet string, n int, seed uint64) string {
	var b strings.Builder
	for x := seed * 0x9e3779b97f4a7c15; b.Len() < n; {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b.WriteByte(alphabet[x%uint64(len(alphabet))])
	}
	return b.String()
}

// Question is one of the open pull requests.
type Question struct {
	Repo   string // full name
	Number int
	Branch string
}

// The names of the open pull requests.
const (
	Clean  = "clean"  // nothing is wrong with it; its repository has a merge queue
	Leak   = "leak"   // it leaks a key
	Waived = "waived" // it asks for a waiver
	Fork   = "fork"   // it comes from a fork
)

// Find finds an open pull request of the story by its name.
func Find(sim *githubsim.Server, key string) (Question, error) {
	steps, err := readStory()
	if err != nil {
		return Question{}, err
	}
	for _, s := range steps {
		if s.key != key {
			continue
		}
		pulls, err := sim.Pulls(Org + "/" + s.repo)
		if err != nil {
			return Question{}, err
		}
		for _, p := range pulls {
			if p.HeadRef == s.branch {
				return Question{p.Repo, p.Number, p.HeadRef}, nil
			}
		}
	}
	return Question{}, fmt.Errorf("demo: no pull request %q", key)
}
