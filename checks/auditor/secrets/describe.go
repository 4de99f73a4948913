package secrets

import (
	"slices"
	"strings"

	"github.com/noxaudit/noxaudit/internal/finding"
)

// card is what a finding of one rule says, whatever was found.
type card struct {
	title       string
	message     string
	remediation string
	severity    finding.Severity
	confidence  finding.Confidence
	cwe         []int
	rank        rank
	loose       bool // its pattern matches placeholders too: they are refused afterwards
}

// precise reports whether a finding's value alone says what it is: one provider's format or a private key. Such
// rules apply in every file, whatever its name and content.
func (c card) precise() bool { return c.rank == provider && !c.loose }

// issued reports whether a value is in a format that only one provider issues. Where it stands takes nothing
// from that, so a folder called "tests" leaves its confidence alone: only the value itself lowers it.
//
// Private keys are no such values, though as precise: nobody issued them, and most of those in repositories are
// fixtures. In test places theirs is halved, which an author can bring about by a name. A policy that must not
// be evaded so asks for a confidence_minimum of 0.45 or less for them.
func (c card) issued() bool {
	key := slices.Contains(c.cwe, cweHardcodedKey) && !slices.Contains(c.cwe, cweHardcodedCredentials)
	return c.precise() && c.confidence >= 800 && !key
}

// rank decides between rules that match the same bytes: the highest names the finding.
type rank int

const (
	generic    rank = iota // the engine's rules on anything that looks random
	assignment             // ours on a name such as "password"
	specific               // ours on one form, such as an Authorization header
	provider               // one provider's format
)

// The numbers of the Common Weakness Enumeration that fit.
const (
	cweHardcodedCredentials = 798
	cweHardcodedKey         = 321
	cweUnprotected          = 522 // insufficiently protected credentials
)

const (
	leaked = "Everyone who can read this repository, its history, its forks or a copy of it can use this credential until it is revoked."
	after  = " Then read the new one from a secret store or the environment. Removing the line is not enough: the history keeps it."
)

// cardOf describes a rule of the engine. By their ids they fall into classes:
//
//   - a format that only one provider issues ("ghp_…") leaves little doubt: high, 0.95;
//   - a random value beside a provider's name ("heroku … = …") some more: high, 0.75;
//   - identifiers and keys made to be public are no secrets, but sit beside some: low, 0.5;
//   - tokens of no known issuer and forms that documents are full of: medium, 0.5 to 0.7.
func cardOf(id, pattern string) card {
	c := card{
		title:       nameOf(id) + " in source",
		message:     leaked,
		remediation: "Revoke it " + revokeAt(id) + " and issue a new one." + after,
		severity:    finding.High,
		confidence:  950,
		cwe:         []int{cweHardcodedCredentials},
		rank:        provider,
	}
	if strings.HasPrefix(pattern, `(?i)[\w.-]{0,50}?(?:`) || strings.HasPrefix(pattern, `[\w.-]{0,50}?(?i:`) {
		c.confidence, c.loose = 750, true
	}
	switch id {
	case "private-key":
		c.title = "Private key in source"
		c.message = "Whoever holds a private key can be whom it stands for: sign, decrypt or log in. " + leaked
		c.remediation = "Make a new key pair, replace the public key or certificate wherever the old one is trusted, and revoke the old one." + after
		c.cwe = []int{cweHardcodedKey}
	case "generic-api-key":
		c.title = "Random value under a secret's name in source"
		c.message = "The value looks random and its name says key, token or secret. " + leaked
		c.remediation = "If it opens anything, revoke it there and issue a new one." + after
		c.severity, c.confidence, c.rank, c.loose = finding.Medium, 500, generic, true
	case "jwt", "jwt-base64":
		c.title = "JSON Web Token in source"
		c.message = "A signed token is a credential until it expires, and many never do. " + leaked
		c.remediation = "Revoke the session or service account it belongs to, or rotate the key that signed it." + after
		c.severity, c.confidence = finding.Medium, 700
	case "curl-auth-header", "curl-auth-user":
		c.title = "Credential in a curl command"
		c.remediation = "Change the password or token where it is valid, and let the command read it from the environment." + after
		c.severity, c.confidence, c.rank, c.loose = finding.Medium, 600, assignment, true
	case "kubernetes-secret-yaml":
		c.title = "Kubernetes Secret with data in source"
		c.message = "The data of a Secret is encoded, not encrypted. " + leaked
		c.remediation = "Change what the Secret holds, and create it from a secret store or encrypt it before committing (SOPS, Sealed Secrets)." + after
		c.severity, c.confidence, c.rank, c.loose = finding.Medium, 600, specific, true
		c.cwe = append(c.cwe, cweUnprotected)
	case "hashicorp-tf-password", "nuget-config-password":
		c.title = map[string]string{"hashicorp-tf-password": "Password in Terraform", "nuget-config-password": "Password in nuget.config"}[id]
		c.remediation = "Change the password where it is valid." + after
		c.severity, c.confidence, c.rank, c.loose = finding.Medium, 600, specific, true
	case "sidekiq-sensitive-url":
		c.remediation = "Change the credentials of that package source." + after
	case "age-secret-key":
		c.remediation = "Make a new identity, encrypt everything for it again, and treat what the old one could read as known." + after
		c.cwe = []int{cweHardcodedKey}
	}
	if publicByDesign[id] {
		c.message = "It identifies an application or is made to be public, so alone it opens nothing; it does say where a leaked secret would fit."
		c.remediation = "Make sure that the secret that belongs to it is not in the repository. Rotate both if it is."
		c.severity, c.confidence, c.loose = finding.Low, 500, true
	}
	return c
}

// addedCard describes a rule of the operator's, who knows what it finds: high, 0.9.
func addedCard(id, description string) card {
	c := cardOf(id, "")
	c.confidence = 900
	if description != "" {
		c.message = description
	}
	return c
}

var publicByDesign = set("adobe-client-id", "asana-client-id", "bitbucket-client-id", "discord-client-id", "linkedin-client-id", "looker-client-id",
	"messagebird-client-id", "plaid-client-id", "sendbird-access-id", "sumologic-access-id", "new-relic-user-api-id", "lob-pub-api-key",
	"mailgun-pub-key", "flutterwave-public-key", "new-relic-browser-api-token", "easypost-test-api-token", "alibaba-access-key-id")

// written maps the words of rule ids to how their owners write them.
var written = map[string]string{
	"1password": "1Password", "aws": "AWS", "gcp": "Google Cloud", "github": "GitHub", "gitlab": "GitLab", "npm": "npm", "pypi": "PyPI", "jwt": "JWT",
	"openai": "OpenAI", "ad": "AD", "api": "API", "oauth": "OAuth", "pat": "personal access token", "id": "ID", "tf": "Terraform", "hashicorp": "HashiCorp",
	"sendgrid": "SendGrid", "digitalocean": "DigitalOcean", "huggingface": "Hugging Face", "jfrog": "JFrog", "launchdarkly": "LaunchDarkly",
	"linkedin": "LinkedIn", "planetscale": "PlanetScale", "rubygems": "RubyGems", "nuget": "NuGet", "url": "URL", "rrt": "runner registration token",
	"ptt": "pipeline trigger token", "scim": "SCIM", "cicd": "CI/CD", "newrelic": "New Relic", "ca": "CA", "maxmind": "MaxMind", "sumologic": "Sumo Logic",
	"mongodb": "MongoDB", "travisci": "Travis CI", "droneci": "Drone CI", "sourcegraph": "Sourcegraph", "clickhouse": "ClickHouse", "circleci": "CircleCI",
	"personnal": "personal", "tokens": "token", "intra42": "Intra 42", "privateai": "Private AI", "easypost": "EasyPost", "kucoin": "KuCoin",
	"pkcs12": "PKCS #12", "yaml": "YAML", "sidekiq": "Sidekiq", "nkey": "NKEY",
}

var plain = set("access", "admin", "key", "token", "secret", "client", "app", "bot", "user", "legacy", "refresh", "webhook", "password", "service", "account",
	"fine", "grained", "personal", "deploy", "feed", "incoming", "mail", "feature", "flag", "runner", "authentication", "routable", "session", "cookie", "job",
	"agent", "config", "workspace", "shared", "private", "custom", "public", "pub", "license", "upload", "long", "lived", "short", "signing", "encryption",
	"organization", "org", "browser", "insert", "reference", "global", "origin", "delivery", "sensitive", "batch", "test", "data", "v2", "application")

// nameOf turns a rule id into words: "aws-access-token" into "AWS access token".
func nameOf(id string) string {
	words := strings.Split(id, "-")
	for i, w := range words {
		switch {
		case written[w] != "":
			words[i] = written[w]
		case !plain[w] && w != "":
			words[i] = strings.ToUpper(w[:1]) + w[1:]
		}
	}
	return strings.Join(words, " ")
}

// revocation says where credentials end, by the beginning of a rule id; the longest that fits counts.
var revocation = map[string]string{
	"1password":       "in 1Password under Developer",
	"alibaba":         "in the RAM console under AccessKey",
	"anthropic":       "in the Anthropic console under API keys",
	"artifactory":     "in Artifactory under the user's profile or Access Tokens",
	"asana":           "in Asana's developer console",
	"atlassian":       "at id.atlassian.com under Security, API tokens",
	"aws":             "in the IAM console (deactivate the access key, watch CloudTrail for its use, delete it)",
	"azure":           "in Microsoft Entra ID under App registrations, Certificates & secrets",
	"bitbucket":       "in Bitbucket under the workspace's OAuth consumers",
	"cloudflare":      "in the Cloudflare dashboard under My Profile, API Tokens",
	"codecov":         "in Codecov under the repository's settings",
	"databricks":      "in Databricks under User settings, Developer, Access tokens",
	"datadog":         "in Datadog under Organization settings, API keys",
	"digitalocean":    "in the DigitalOcean control panel under API",
	"discord":         "in the Discord developer portal (Reset Token)",
	"doppler":         "in Doppler under Tokens",
	"dropbox":         "in the Dropbox App Console",
	"facebook":        "in Meta for Developers under the app's settings",
	"fastly":          "in Fastly under Personal API tokens",
	"flyio":           "with fly tokens revoke",
	"gcp":             "in the Google Cloud console under APIs & Services, Credentials (or restrict it to your sites, if it is a browser key)",
	"github":          "on GitHub under Settings, Developer settings (an organization's owner: under Third-party Access)",
	"gitlab":          "in GitLab under Access tokens of the user, group or project",
	"grafana":         "in Grafana under Administration, Service accounts",
	"hashicorp":       "in HCP Terraform under Tokens",
	"heroku":          "in the Heroku dashboard under Account settings (Regenerate API Key)",
	"hubspot":         "in HubSpot under Private apps",
	"huggingface":     "on Hugging Face under Settings, Access Tokens",
	"linear":          "in Linear under Settings, API",
	"mailchimp":       "in Mailchimp under Extras, API keys",
	"mailgun":         "in Mailgun under API Security",
	"netlify":         "in Netlify under User settings, Applications",
	"new-relic":       "in New Relic under API keys",
	"notion":          "in Notion under My integrations",
	"npm":             "on npmjs.com under Access Tokens, or with npm token revoke",
	"okta":            "in the Okta admin console under Security, API, Tokens",
	"openai":          "on platform.openai.com under API keys",
	"planetscale":     "in PlanetScale under Passwords or Service tokens",
	"postman":         "in Postman under Settings, API keys",
	"pulumi":          "in Pulumi Cloud under Access tokens",
	"pypi":            "on pypi.org under Account settings, API tokens",
	"rubygems":        "on rubygems.org under Edit settings, API keys",
	"sendgrid":        "in SendGrid under Settings, API Keys",
	"sentry":          "in Sentry under Settings, Auth Tokens",
	"shopify":         "in Shopify under Apps, API credentials",
	"slack":           "on api.slack.com under the app's OAuth & Permissions (or auth.revoke)",
	"snyk":            "in Snyk under Account settings",
	"sonar":           "in SonarQube under My Account, Security",
	"square":          "in the Square developer dashboard under Credentials",
	"stripe":          "in the Stripe dashboard under Developers, API keys (Roll key)",
	"telegram":        "by asking @BotFather for /revoke",
	"twilio":          "in the Twilio console under API keys",
	"twitter":         "in X's developer portal under Keys and tokens",
	"vault":           "with vault token revoke",
	"slack-webhook":   "on api.slack.com under the app's Incoming Webhooks",
	"microsoft-teams": "in Teams by removing the webhook from its channel",
}

func revokeAt(id string) string {
	at, longest := "where its provider manages it", 0
	for prefix, where := range revocation {
		if len(prefix) > longest && strings.HasPrefix(id, prefix) {
			at, longest = where, len(prefix)
		}
	}
	return at
}
