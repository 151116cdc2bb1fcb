// Package config says what meshctl can be configured with, and finds out what it
// is: flags go before the environment, the environment before the configuration
// file, the file before the defaults. It also finds, makes and reads the keys.
//
// One table (Settings) is the source of the flags, the environment names, the keys
// of the configuration file, its commented sample and docs/configuration.md. It is
// the only package that imports viper.
package config
