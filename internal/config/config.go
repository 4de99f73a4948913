// Package config holds the one table of settings from which flags, environment, the configuration file, help
// texts and the reference page are made. A setting is taken from, first match wins: its flag, its environment
// variable, the file that …_FILE names (secrets only), the YAML file of --config, its default.
package config

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/noxaudit/noxaudit/internal/database"
)

// Setting is a row of the table.
type Setting struct {
	Env    string // NOXAUDIT_DATA_DIR; the flag is its tail in lower case with dashes: --data-dir
	Help   string
	Secret bool // hidden when shown; also read from Env+"_FILE"
	field  func(*Config) *string
	check  func(string) error
}

// Flag is the setting's flag name, without dashes in front.
func (s Setting) Flag() string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(s.Env, "NOXAUDIT_"), "_", "-"))
}

// key is the setting's name in the configuration file.
func (s Setting) key() string {
	return strings.ToLower(strings.TrimPrefix(s.Env, "NOXAUDIT_"))
}

// Config is what the settings say. Zero values are replaced by defaults in Load.
type Config struct {
	DataDir           string // absolute; for SQLite files, keys and caches
	DatabaseURL       string // "" = SQLite in DataDir
	LedgerDatabaseURL string // "" = a SQLite file of its own in DataDir
	LedgerKeyFile     string // "" = made in DataDir, on SQLite only
	Deployment        string // names this installation in the ledger's origin
	Server
}

// Server are the settings of "noxaudit serve".
type Server struct {
	Listen               string // address of pages and webhooks
	MetricsListen        string // address of metrics; "" = none
	BaseURL              string // where people reach the pages
	GitHubAPIURL         string
	GitHubWebURL         string
	GitHubAppID          string
	GitHubPrivateKeyFile string
	GitHubWebhookSecret  string
	GitHubClientID       string // of the App, for people's sign-in; "" = nobody can sign in
	GitHubClientSecret   string
}

// Table lists all settings, in the order in which people read them.
var Table = []Setting{
	{Env: "NOXAUDIT_DATA_DIR", Help: "folder for the embedded databases and keys (default: noxaudit in the user's data folder)",
		field: func(c *Config) *string { return &c.DataDir }},
	{Env: "NOXAUDIT_DATABASE_URL", Help: "postgres:// URL of the operational database; empty: SQLite in the data folder", Secret: true,
		field: func(c *Config) *string { return &c.DatabaseURL }, check: postgresOrEmpty},
	{Env: "NOXAUDIT_LEDGER_DATABASE_URL", Help: "postgres:// URL of the ledger's own database; empty: a separate SQLite file in the data folder", Secret: true,
		field: func(c *Config) *string { return &c.LedgerDatabaseURL }, check: postgresOrEmpty},
	{Env: "NOXAUDIT_LEDGER_KEY_FILE", Help: "file with the key that signs ledger checkpoints; required with PostgreSQL, made in the data folder otherwise",
		field: func(c *Config) *string { return &c.LedgerKeyFile }},
	{Env: "NOXAUDIT_DEPLOYMENT", Help: "name of this installation in the ledger's origin (default: local)",
		field: func(c *Config) *string { return &c.Deployment }, check: deployment},
	{Env: "NOXAUDIT_LISTEN", Help: "serve: address to listen on (default: :8080)",
		field: func(c *Config) *string { return &c.Listen }},
	{Env: "NOXAUDIT_METRICS_LISTEN", Help: "serve: address for Prometheus metrics, apart from the pages; empty: none",
		field: func(c *Config) *string { return &c.MetricsListen }},
	{Env: "NOXAUDIT_BASE_URL", Help: "serve: address under which people reach the pages",
		field: func(c *Config) *string { return &c.BaseURL }, check: webURL},
	{Env: "NOXAUDIT_GITHUB_API_URL", Help: "serve: GitHub's REST API (default: https://api.github.com; Enterprise Server: https://HOST/api/v3)",
		field: func(c *Config) *string { return &c.GitHubAPIURL }, check: webURL},
	{Env: "NOXAUDIT_GITHUB_WEB_URL", Help: "serve: GitHub's pages and git (default: https://github.com)",
		field: func(c *Config) *string { return &c.GitHubWebURL }, check: webURL},
	{Env: "NOXAUDIT_GITHUB_APP_ID", Help: "serve: numeric id of the GitHub App",
		field: func(c *Config) *string { return &c.GitHubAppID }},
	{Env: "NOXAUDIT_GITHUB_PRIVATE_KEY_FILE", Help: "serve: PEM file with the App's private key",
		field: func(c *Config) *string { return &c.GitHubPrivateKeyFile }},
	{Env: "NOXAUDIT_GITHUB_WEBHOOK_SECRET", Help: "serve: secret that GitHub signs webhooks with; required", Secret: true,
		field: func(c *Config) *string { return &c.GitHubWebhookSecret }},
	{Env: "NOXAUDIT_GITHUB_CLIENT_ID", Help: "serve: client id of the GitHub App, for people's sign-in",
		field: func(c *Config) *string { return &c.GitHubClientID }},
	{Env: "NOXAUDIT_GITHUB_CLIENT_SECRET", Help: "serve: client secret of the GitHub App, for people's sign-in; a new one ends all sessions", Secret: true,
		field: func(c *Config) *string { return &c.GitHubClientSecret }},
}

// Sources are where Load looks. Flags holds the flags that were given, by flag name.
type Sources struct {
	Flags   map[string]string
	Environ []string // "NAME=value", as os.Environ
	File    string   // of --config; "" for none
	Home    string   // default parent of the data folder
}

const maxFile = 1 << 20

// Load reads and checks all settings. Its errors name the setting and its source, never a secret's value.
func Load(src Sources) (Config, error) {
	env := map[string]string{}
	for _, kv := range src.Environ {
		if k, v, ok := strings.Cut(kv, "="); ok {
			env[k] = v
		}
	}
	file, err := readFile(src.File)
	if err != nil {
		return Config{}, err
	}
	var c Config
	var problems []error
	for _, s := range Table {
		value, from, err := s.find(src.Flags, env, file, src.File)
		if err == nil && s.check != nil {
			err = s.check(value)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("%s (from %s): %w", s.Env, from, err))
			continue
		}
		*s.field(&c) = value
	}
	if err := errors.Join(problems...); err != nil {
		return Config{}, err
	}
	return c.withDefaults(src.Home)
}

func (s Setting) find(flags, env, file map[string]string, path string) (value, from string, err error) {
	if v, ok := flags[s.Flag()]; ok {
		return v, "--" + s.Flag(), nil
	}
	if v, ok := env[s.Env]; ok && v != "" {
		return v, "the environment", nil
	}
	if name := env[s.Env+"_FILE"]; s.Secret && name != "" {
		b, err := os.ReadFile(name)
		if err != nil {
			return "", s.Env + "_FILE", fmt.Errorf("cannot be read: %w", err)
		}
		v := strings.TrimRight(string(b), "\r\n")
		if v == "" {
			return "", s.Env + "_FILE", fmt.Errorf("%s is empty: was the secret mounted?", name)
		}
		return v, s.Env + "_FILE", nil
	}
	if v, ok := file[s.key()]; ok {
		return v, path, nil
	}
	return "", "its default", nil
}

func readFile(path string) (map[string]string, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("configuration file: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("configuration file: %w", err)
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("configuration file %s: larger than 1 MiB", path)
	}
	var values map[string]string
	if err := yaml.Unmarshal(b, &values); err != nil {
		// yaml's own message may quote a value, and values may be secrets.
		return nil, fmt.Errorf("configuration file %s: want one \"name: value\" a line, each value a text", path)
	}
	known := map[string]bool{}
	for _, s := range Table {
		known[s.key()] = true
	}
	var unknown []string
	for k := range values {
		if !known[k] {
			unknown = append(unknown, k)
		}
	}
	if len(unknown) > 0 {
		sort.Strings(unknown)
		return nil, fmt.Errorf("configuration file %s: no such setting: %s", path, strings.Join(unknown, ", "))
	}
	return values, nil
}

func (c Config) withDefaults(home string) (Config, error) {
	if c.DataDir == "" {
		if home == "" {
			return Config{}, errors.New("NOXAUDIT_DATA_DIR: this user has no home folder; name a folder with --data-dir")
		}
		c.DataDir = filepath.Join(home, "noxaudit")
	}
	abs, err := filepath.Abs(c.DataDir)
	if err != nil {
		return Config{}, fmt.Errorf("NOXAUDIT_DATA_DIR: %w", err)
	}
	c.DataDir = abs
	if (c.DatabaseURL == "") != (c.LedgerDatabaseURL == "") {
		return Config{}, errors.New("NOXAUDIT_DATABASE_URL and NOXAUDIT_LEDGER_DATABASE_URL: set both or neither; a ledger on this machine's disk cannot follow a database that others write to as well")
	}
	for _, d := range []struct {
		field *string
		value string
	}{
		{&c.Deployment, "local"}, {&c.Listen, ":8080"},
		{&c.GitHubAPIURL, "https://api.github.com"}, {&c.GitHubWebURL, "https://github.com"},
	} {
		if *d.field == "" {
			*d.field = d.value
		}
	}
	return c, nil
}

// StoreDSN is what internal/store opens.
func (c Config) StoreDSN() string {
	if c.DatabaseURL != "" {
		return c.DatabaseURL
	}
	return filepath.Join(c.DataDir, "noxaudit.db")
}

// LedgerDSN is what ledger/sqllog opens.
func (c Config) LedgerDSN() string {
	if c.LedgerDatabaseURL != "" {
		return c.LedgerDatabaseURL
	}
	return filepath.Join(c.DataDir, "ledger.db")
}

// JobsDSN is what server/work opens.
func (c Config) JobsDSN() string {
	if c.DatabaseURL != "" {
		return c.DatabaseURL
	}
	return filepath.Join(c.DataDir, "jobs.db")
}

// LedgerKey is the key file, and whether it may be made when it is missing. With PostgreSQL it may not: two
// replicas would make two keys, and a lost container would take the key with it.
func (c Config) LedgerKey() (path string, create bool, err error) {
	if c.LedgerKeyFile != "" {
		return c.LedgerKeyFile, false, nil
	}
	if c.LedgerDatabaseURL != "" || c.DatabaseURL != "" {
		return "", false, errors.New("NOXAUDIT_LEDGER_KEY_FILE: needed with PostgreSQL; make a key with \"noxaudit ledger keygen FILE\" and keep it outside the database")
	}
	return filepath.Join(c.DataDir, "ledger.key"), true, nil
}

func postgresOrEmpty(v string) error {
	if v != "" && !database.IsPostgres(v) {
		return errors.New("want a URL that begins with postgres:// or postgresql://")
	}
	return nil
}

func webURL(v string) error {
	if v == "" {
		return nil
	}
	u, err := url.Parse(v)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") || u.User != nil {
		return errors.New("want an address that begins with https:// or http://, without a password")
	}
	return nil
}

func deployment(v string) error {
	if len(v) > 64 {
		return errors.New("longer than 64 characters")
	}
	for _, r := range v {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '.' {
			return errors.New("want letters, digits, dots and dashes only")
		}
	}
	return nil
}
