package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
)

// tokenFlags are where a client command has its token from. The zero value is none.
type tokenFlags struct {
	Token     string `name:"token" env:"PUSHD_TOKEN" placeholder:"TOKEN" help:"Show this token or API key. Other users of this machine see the arguments of a program: PUSHD_TOKEN in the environment and --token-file are safer."`
	TokenFile string `name:"token-file" env:"PUSHD_TOKEN_FILE" type:"path" placeholder:"FILE" help:"Show the token or API key in this file, which is read again for each connection and when the token is about to end."`
}

// read returns the token, "" where there is none.
func (f tokenFlags) read() (string, error) {
	token, from := f.Token, "--token"
	if f.TokenFile != "" {
		if f.Token != "" {
			return "", errors.New("--token and --token-file exclude each other: give one of them (PUSHD_TOKEN counts as --token)")
		}
		text, err := os.ReadFile(f.TokenFile)
		if err != nil {
			return "", fmt.Errorf("--token-file: %w", err)
		}
		token, from = strings.TrimSpace(string(text)), "--token-file"
		if token == "" {
			return "", fmt.Errorf("--token-file %s is empty", f.TokenFile)
		}
	}
	for i := range len(token) {
		if c := token[i]; c <= ' ' || c > '~' { // it becomes a header; the token itself is not repeated
			return "", fmt.Errorf("%s is no token: its byte %d is no visible ASCII character", from, i)
		}
	}
	return token, nil
}

// authorize puts the token into the header of a request.
func (f tokenFlags) authorize(header http.Header) error {
	token, err := f.read()
	if token != "" {
		header.Set("Authorization", "Bearer "+token)
	}
	return err
}

// hint says what to do about a refusal for want of a good token.
func (f tokenFlags) hint() string {
	switch {
	case f.TokenFile != "":
		return "put a good token into " + f.TokenFile
	case f.Token != "":
		return "give another --token"
	}
	return "give a token with --token-file, or in PUSHD_TOKEN"
}
