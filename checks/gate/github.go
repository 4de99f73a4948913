package gate

import (
	"context"
	"errors"
	"time"

	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/ledger"
	"github.com/noxaudit/noxaudit/policy/waiver"
)

// What the gate hears from GitHub and says to it, in its own words. internal/github translates both ways and
// is the only room that knows GitHub's types.

// Origin is where a repository lives: the installation that speaks for it, and the names under which GitHub
// serves it today. Only Repo.ID is a key; owner and name may change.
type Origin struct {
	Installation  int64
	Repo          name.Repo // Account = numeric id of the owner, ID = numeric id of the repository
	Owner, Name   string
	DefaultBranch string
	Private       bool
	Archived      bool
}

// Event is something GitHub told us, verified and parsed. One of the pointers is set; none for an event that
// asks nothing of us.
type Event struct {
	Delivery string       // GitHub's GUID
	Sender   ledger.Actor // kind "user" or "app", numeric id, login; via "webhook"
	Origin   Origin       // zero for events without a repository

	Pull         *PullEvent
	Push         *PushEvent
	MergeGroup   *MergeGroupEvent
	Rerun        *RerunEvent
	Installation *InstallationEvent
	Repository   *RepositoryEvent
	Membership   *MembershipEvent
	Remark       *RemarkEvent
}

// Pull is a pull request as an event or a listing describes it.
type Pull struct {
	Number    int
	Head      name.Commit
	HeadRef   string // branch name; of outside origin
	HeadRepo  int64  // numeric id; 0 when the fork is gone
	BaseRef   string // branch name, without refs/heads/
	Base      name.Commit
	Draft     bool
	Open      bool
	Title     string
	AuthorID  int64
	Author    string
	UpdatedAt time.Time // orders two descriptions of one pull request
}

// PullEvent is pull_request.
type PullEvent struct {
	Action string // "opened", "synchronize", "reopened", "edited", "ready_for_review", "converted_to_draft", "closed"
	Pull   Pull
	Before name.Commit // of synchronize: the head before this one; zero where it is not told
}

// PushEvent is push.
type PushEvent struct {
	Ref           string // "refs/heads/main"
	Before, After name.Commit
	Created       bool
	Deleted       bool
	Forced        bool
	Paths         []string // changed paths that the payload names; incomplete beyond 2,048 commits or 3,000 files
	PathsComplete bool
}

// MergeGroupEvent is merge_group.
type MergeGroupEvent struct {
	Action  string // "checks_requested", "destroyed"
	Head    name.Commit
	HeadRef string // "refs/heads/gh-readonly-queue/main/pr-7-…"
	Base    name.Commit
	BaseRef string // "refs/heads/main"
}

// RerunEvent asks to look at a commit again: check_run and check_suite rerequested, check_run requested_action.
type RerunEvent struct {
	Head   name.Commit
	Action string // of requested_action: its identifier; "" for a plain re-run
	Check  int64  // id of our check run; 0 for a suite
}

// InstallationEvent is installation and installation_repositories.
type InstallationEvent struct {
	Action  string // "created", "deleted", "suspend", "unsuspend", "new_permissions_accepted", "added", "removed"
	ID      int64
	Account name.Account
	Login   string
	Added   []Origin // repositories that the installation covers from now on; without default branch
	Removed []Origin
}

// RepositoryEvent is repository.
type RepositoryEvent struct {
	Action string // "renamed", "transferred", "archived", "unarchived", "deleted", "edited", "privatized", "publicized"
	From   string // the old full name or owner, where there is one
}

// MembershipEvent is member, membership, team and organization: who may do what has changed.
type MembershipEvent struct {
	Kind   string // the event's name
	Action string
}

// RemarkEvent is something a person wrote on a pull request: issue_comment, pull_request_review,
// pull_request_review_comment.
type RemarkEvent struct {
	Action  string // "created", "edited", "deleted"; a submitted review is created
	Surface string // of the store: SurfaceComment, SurfaceReview, SurfaceReviewComment
	ID      int64
	Pull    int
	Body    string
	Was     string       // of an edited one: what it said before, where GitHub tells
	Author  waiver.Actor // who wrote it; the event's sender may be somebody else
	Touched bool         // of a created one: it has been edited since
	At      time.Time    // when that happened
}

// Check is the one check run of a commit as it should be on GitHub.
type Check struct {
	Origin      Origin
	Head        name.Commit
	ID          int64  // GitHub's id; 0: not known to exist
	ExternalID  string // ours: it finds the run again when the answer to its creation was lost
	Completed   bool
	Blocked     bool // of a completed one: failure, else success. There is no third
	Started     time.Time
	Finished    time.Time
	Title       string // at most 255 characters
	Summary     string // Markdown, at most 65,535 characters
	Text        string // Markdown, at most 65,535 characters
	DetailsURL  string
	Annotations []Annotation // all of them; they are sent 50 at a time
	Actions     []Action     // at most 3
}

// Annotation is a note on a line of a file of the head.
type Annotation struct {
	Path               string
	StartLine, EndLine int
	StartColumn        int    // 0 = unknown; only where both lines are one
	EndColumn          int    // 0 = unknown
	Level              string // "failure", "warning", "notice"
	Title, Message     string // at most 255 characters; at most 64 KB
}

// Action is a button of a check run.
type Action struct {
	Label       string // at most 20 characters
	Description string // at most 40 characters
	Identifier  string // at most 20 characters
}

// Publisher puts check runs on GitHub. Publish creates the run, or updates the one of Check.ID, and returns its
// id. It is safe to repeat: with ID 0 it first makes sure, where an earlier attempt may have got through, that
// no run with this external id exists. Errors that will pass wrap ErrGitHubUnavailable; ErrGitHubGone says
// that the repository, or the right to write there, is gone for good.
type Publisher interface {
	Publish(ctx context.Context, c Check, retry bool) (id int64, err error)
}

// Forge is what the gate asks GitHub when it has to make sure, sweeping and reconciling: one method a list.
type Forge interface {
	// Installations lists the App's installations, suspended ones left out.
	Installations(ctx context.Context) ([]InstallationEvent, error)
	// Repositories lists what an installation covers.
	Repositories(ctx context.Context, installation int64) ([]Origin, error)
	// OpenPulls lists a repository's open pull requests.
	OpenPulls(ctx context.Context, o Origin) ([]Pull, error)
	// Comments lists what was written on a repository's pull requests or changed since a time: created, or edited.
	Comments(ctx context.Context, o Origin, since time.Time) ([]RemarkEvent, error)
	// Deliveries lists the App's webhook deliveries since a time, newest first; failed ones included.
	Deliveries(ctx context.Context, since time.Time) ([]DeliveryRecord, error)
	// Redeliver asks GitHub to send a delivery once more.
	Redeliver(ctx context.Context, id int64) error
}

// DeliveryRecord is a line of GitHub's list of deliveries.
type DeliveryRecord struct {
	ID        int64  // of the attempt, for Redeliver
	GUID      string // of the delivery: equal for all its attempts
	Delivered time.Time
	Event     string
	OK        bool // answered with 2xx
}

// People is what the gate asks GitHub about persons, at the moment they act.
type People interface {
	// Permission is what a person may do in a repository now, with the person's numeric id. Somebody whom GitHub does
	// not know has waiver.None.
	Permission(ctx context.Context, o Origin, login string) (id int64, p waiver.Permission, err error)
	// Pull is a pull request as it is now, with everybody who has a part in its commits.
	Pull(ctx context.Context, o Origin, number int) (PullNow, error)
}

// PullNow is a pull request with its people.
type PullNow struct {
	Open         bool
	Head         name.Commit
	Author       int64
	Contributors []int64  // authors, committers and co-authors of its commits, by numeric id
	Unattributed int      // commits whose author or committer GitHub does not know, or that it does not list
	Named        []string // co-authors whom GitHub does not tell: names and addresses, in lower case
}

// Voice answers people.
type Voice interface {
	// React puts a reaction on what they wrote; where GitHub has none for it, nothing happens.
	React(ctx context.Context, o Origin, surface string, id int64, reaction string) error
	// Reply writes a comment on a pull request. marker is hidden in it: with retry set it is looked for first, so that
	// an answer that got through is not given twice.
	Reply(ctx context.Context, o Origin, pull int, marker, body string, retry bool) error
}

// ErrGitHubUnavailable says that GitHub could not do it now: it is down, slow, or asks for patience.
var ErrGitHubUnavailable = errors.New("GitHub is not available now")

// ErrGitHubGone says that GitHub will not do it however often it is asked: the repository or installation is
// gone or suspended, or the App lacks a permission.
var ErrGitHubGone = errors.New("GitHub refuses this for good")
