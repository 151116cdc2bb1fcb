package config

import (
	"github.com/spf13/pflag"
)

// AddFlags adds the flags of one command's settings to fs.
func AddFlags(fs *pflag.FlagSet, command string) {
	for _, s := range Settings() {
		if s.Has(command) && !s.Secret && !s.NoFlag {
			f := fs.VarPF(&flagValue{setting: s, text: s.Default}, s.Key, s.Short, s.Usage)
			if s.Kind == KindBool {
				f.NoOptDefVal = "true"
			}
		}
	}
}

// flagValue is a flag that refuses bad values while flags are parsed, so that they
// are usage errors, and that hands on the text it was given.
type flagValue struct {
	setting Setting
	text    string
}

func (v *flagValue) String() string { return v.text }

// Type is what help shows where the usage names nothing, and what pflag tells
// apart zero values by.
func (v *flagValue) Type() string { return string(v.setting.Kind) }

func (v *flagValue) Set(text string) error {
	if err := v.setting.Validate(text); err != nil {
		return err
	}
	v.text = text
	return nil
}
