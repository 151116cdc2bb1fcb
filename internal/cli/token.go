package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/meshctl/meshctl/internal/bounded"
	"github.com/meshctl/meshctl/internal/config"
	"github.com/meshctl/meshctl/internal/mesh/identity"
	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/spf13/cobra"
)

// defaultTTL is how long a token is valid unless said otherwise.
const defaultTTL = 720 * time.Hour

func newCmdToken(app *App) *cobra.Command {
	return parentOnly("token", "Issue and look at tokens, which say who may be which worker",
		newCmdTokenIssue(app), newCmdTokenShow(app), newCmdTokenKeygen(app))
}

type tokenIssueOptions struct {
	app      *App
	worker   string
	variant  string
	operator bool
	ttl      time.Duration
	key, out string
}

func newCmdTokenIssue(app *App) *cobra.Command {
	opts := &tokenIssueOptions{app: app}
	cmd := &cobra.Command{
		Use:   "issue [WORKER]",
		Short: "Sign a token for a worker, or for operators",
		Long: `Sign a token: who has it may join the mesh as WORKER, or use the mesh as an operator
(call, ls, …) with --operator. It is printed, or written with --out to a file that only
its owner can read and that --token then names.

The issuer key is made when it is first needed, in the user's configuration folder; the
public key beside it (issuer.pub) is what master and nodes check by: --token-issuer. A
token that is lost is revoked by its id with serve-master --token-denylist.`,
		Example: `  meshctl token issue billing --variant b1 --ttl 168h --out billing.token
  meshctl token issue --operator --out operator.token`,
		Args: upToArgs(1),
	}
	f := cmd.Flags()
	f.StringVar(&opts.variant, "variant", "", "the one `variant` that the token is for; default: every variant")
	f.BoolVar(&opts.operator, "operator", false, "a token for operators instead of a worker")
	f.DurationVar(&opts.ttl, "ttl", defaultTTL, "`time` until it expires")
	f.StringVar(&opts.key, "issuer-key", "", "issuer's private key `file`; default: issuer.key in the user's configuration folder")
	f.StringVar(&opts.out, "out", "", "`file` to write the token to, for its owner alone; default: stdout")
	cmd.ValidArgsFunction = completeWorkers(app)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		switch {
		case opts.operator && len(args) > 0:
			return usagef("leave one of the two away", "--operator and a worker are given")
		case opts.operator:
			opts.worker = identity.Operator
		case len(args) == 0:
			return usagef("name a worker, or give --operator", "an argument is missing")
		default:
			opts.worker = args[0]
			if err := schema.ValidWorker(opts.worker); err != nil {
				return usagef("", "%v", err)
			}
		}
		if opts.variant != "" {
			if err := wire.ValidVariant(opts.variant); err != nil {
				return usagef("", "--variant: %v", err)
			}
		}
		if opts.ttl < time.Second || opts.ttl > identity.MaxTTL {
			return usagef("", "--ttl %s is not between 1s and %s", opts.ttl, identity.MaxTTL)
		}
		return runTokenIssue(opts)
	}
	return cmd
}

func runTokenIssue(opts *tokenIssueOptions) error {
	app := opts.app
	key, err := app.issuerKey(opts.key)
	if err != nil {
		return err
	}
	token, claims, err := key.Issue(opts.worker, opts.variant, opts.ttl, time.Now())
	if err != nil {
		return err
	}
	if opts.out == "" {
		_, err = fmt.Fprintln(app.Out, string(token))
	} else {
		err = config.WriteToken(opts.out, token)
	}
	if err != nil {
		return err
	}
	app.notice("token %s for %s expires %s", claims.ID, claims.Name(), claims.Expires.Format(time.RFC3339))
	return nil
}

// issuerKey reads the issuer key of a file, or the user's own, which it makes at need.
func (a *App) issuerKey(path string) (*identity.Key, error) {
	if path == "" {
		var err error
		if path, err = a.Env.IssuerKeyPath(); err != nil {
			return nil, err
		}
		created, err := config.CreateIssuerKey(path)
		if err != nil {
			return nil, err
		}
		if created {
			a.notice("created the issuer key %s; master and nodes need --token-issuer %s", path, config.PublicIssuerPath(path))
		}
	}
	key, warning, err := config.ReadIssuerKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &config.NotFoundError{What: "issuer key", Path: path, Hint: "meshctl token keygen --issuer-key FILE makes one"}
	}
	if err != nil {
		return nil, err
	}
	if warning != "" {
		a.notice("warning: %s", warning)
	}
	return key, nil
}

func newCmdTokenKeygen(app *App) *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "keygen",
		Short: "Make the issuer's key, and print its public part",
		Long: `Make the Ed25519 key that tokens are signed with, unless there is one, and print its
public part, which lies beside it with the ending .pub. Master and nodes check tokens
by that file (--token-issuer); it may hold several public keys, one after another, so
that an issuer's key can be replaced.`,
		Args: noArgs,
	}
	cmd.Flags().StringVar(&path, "issuer-key", "", "private key `file`; default: issuer.key in the user's configuration folder")
	cmd.RunE = func(*cobra.Command, []string) error {
		if path != "" {
			if _, err := config.CreateIssuerKey(path); err != nil {
				return err
			}
		}
		key, err := app.issuerKey(path)
		if err != nil {
			return err
		}
		public, err := key.Public()
		if err != nil {
			return err
		}
		_, err = app.Out.Write(public)
		return err
	}
	return cmd
}

func newCmdTokenShow(app *App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show [FILE]",
		Short: "Print what a token says, never the token",
		Long: `Print what the token of FILE (- for stdin), or of --token, says, and whether it is valid:
with --token-issuer its signature is checked, without only its time.`,
		Args: upToArgs(1),
	}
	config.AddFlags(cmd.Flags(), config.CmdTokenShow)
	output := addFormat(cmd, "how to print it", formatTable, formatJSON, formatYAML, formatTable)
	cmd.ValidArgsFunction = completeFile
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		cfg, err := app.load(cmd)
		if err != nil {
			return err
		}
		path := cfg.TokenFile
		if len(args) == 1 {
			path = args[0]
		}
		return runTokenShow(app, cfg, path, *output)
	}
	return cmd
}

// shownToken is a token as it is printed.
type shownToken struct {
	identity.Claims
	Status string `json:"status"`
}

func runTokenShow(app *App, cfg *config.Config, path string, output format) error {
	var token identity.Token
	switch path {
	case "":
		return usagef("name a file, or set --token", "no token is named")
	case "-":
		data, err := bounded.ReadAll(app.In, "stdin", identity.MaxLen+16)
		if err != nil {
			return fmt.Errorf("read token: %w", err)
		}
		token = identity.Token(strings.TrimSpace(string(data)))
	default:
		var err error
		if token, _, err = config.ReadToken(path); err != nil {
			return err
		}
	}
	claims, err := identity.Inspect(token)
	if err != nil {
		return err
	}
	issuer, err := loadIssuer(cfg)
	if err != nil {
		return err
	}
	shown := shownToken{*claims, tokenStatus(token, claims, issuer, time.Now())}
	if output != formatTable {
		return writeValue(app.Out, shown, output)
	}
	variant := printable(claims.Variant)
	if variant == "" {
		variant = "every"
	}
	return writeTable(app.Out, []string{"ID", "WORKER", "VARIANT", "EXPIRES", "STATUS", "ISSUER"}, [][]string{{
		printable(claims.ID), printable(claims.Worker), variant, claims.Expires.Format(time.RFC3339), shown.Status, printable(claims.Issuer),
	}})
}

func tokenStatus(t identity.Token, c *identity.Claims, issuer *identity.Verifier, now time.Time) string {
	if issuer != nil {
		if _, err := issuer.Verify(t, now); err != nil {
			return err.Error()
		}
		return "valid"
	}
	if now.After(c.Expires) {
		return identity.ErrExpired.Error()
	}
	return "signature not checked (--token-issuer)"
}
