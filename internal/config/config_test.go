package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "noxaudit.yml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFlagWinsOverEnvironmentOverFileOverDefault(t *testing.T) {
	file := write(t, "data_dir: /from-file\ndeployment: file\n")
	home := t.TempDir()
	for _, c := range []struct {
		name string
		src  Sources
		want string
	}{
		{"default", Sources{Home: home}, filepath.Join(home, "noxaudit")},
		{"file", Sources{Home: home, File: file}, "/from-file"},
		{"environment", Sources{Home: home, File: file, Environ: []string{"NOXAUDIT_DATA_DIR=/from-env"}}, "/from-env"},
		{"flag", Sources{Home: home, File: file, Environ: []string{"NOXAUDIT_DATA_DIR=/from-env"}, Flags: map[string]string{"data-dir": "/from-flag"}}, "/from-flag"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Load(c.src)
			if err != nil || got.DataDir != c.want {
				t.Errorf("data dir %q, %v; want %q", got.DataDir, err, c.want)
			}
		})
	}
}

func TestSecretIsReadFromAFile(t *testing.T) {
	secret := write(t, "postgres://u:hunter2@db/x\n")
	c, err := Load(Sources{Home: "/h", Environ: []string{"NOXAUDIT_DATABASE_URL_FILE=" + secret, "NOXAUDIT_LEDGER_DATABASE_URL=postgres://l/x"}})
	if err != nil || c.DatabaseURL != "postgres://u:hunter2@db/x" {
		t.Errorf("got %q, %v", c.DatabaseURL, err)
	}
}

func TestRefusalsNameTheSettingAndKeepSecrets(t *testing.T) {
	for _, c := range []struct{ name, file, env, want string }{
		{"a database that is none", "", "NOXAUDIT_DATABASE_URL=mysql://u:hunter2@db", "NOXAUDIT_DATABASE_URL"},
		{"unknown name in the file", "data_dirr: /x\n", "", "data_dirr"},
		{"a list in the file", "database_url: [hunter2]\n", "", "name: value"},
		{"not YAML", "\thunter2", "", "configuration file"},
		{"one database shared and the other not", "", "NOXAUDIT_DATABASE_URL=postgres://db/x", "set both or neither"},
		{"an empty secret file", "", "NOXAUDIT_DATABASE_URL_FILE=/dev/null", "is empty"},
		{"a deployment with a slash", "", "NOXAUDIT_DEPLOYMENT=a/b", "NOXAUDIT_DEPLOYMENT"},
	} {
		t.Run(c.name, func(t *testing.T) {
			src := Sources{Home: "/h", Environ: []string{c.env}}
			if c.file != "" {
				src.File = write(t, c.file)
			}
			_, err := Load(src)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want one that names %q", err, c.want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error tells a secret: %v", err)
			}
		})
	}
}

func TestPostgresNeedsANamedLedgerKey(t *testing.T) {
	c, err := Load(Sources{Home: "/h", Environ: []string{"NOXAUDIT_DATABASE_URL=postgres://db/x", "NOXAUDIT_LEDGER_DATABASE_URL=postgres://l/x"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.LedgerKey(); err == nil {
		t.Error("a key would be made beside a shared database")
	}
}

func TestEverySettingHasHelpAndItsOwnFlag(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range Table {
		if s.Help == "" || seen[s.Flag()] || !strings.HasPrefix(s.Env, "NOXAUDIT_") {
			t.Errorf("%s: no help, or a flag used twice", s.Env)
		}
		seen[s.Flag()] = true
	}
}
