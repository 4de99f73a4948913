package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/noxaudit/noxaudit/internal/database"
	"github.com/noxaudit/noxaudit/ledger/sqllog"
)

func (p *program) migrateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "migrate",
		Short: "bring both databases' schemas up to date",
		Long: `Brings the schemas of the operational database and of the ledger's database up to
date. Every other command does so by itself; this one is for deployments in which
only an administrator may change schemas.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			st, err := p.openStore(ctx)
			if err != nil {
				return err
			}
			defer st.Close()
			fmt.Fprintf(p.stdout, "%s: up to date\n", database.Redact(p.config.StoreDSN()))
			if p.config.LedgerDatabaseURL == "" {
				if err := p.makeDataDir(); err != nil {
					return err
				}
			}
			log, err := sqllog.Open(ctx, p.config.LedgerDSN(), p.config.Deployment)
			if err != nil {
				return fmt.Errorf("ledger: %w", err)
			}
			defer log.Close()
			fmt.Fprintf(p.stdout, "%s: up to date\n", database.Redact(p.config.LedgerDSN()))
			return nil
		},
	}
}
