package main

import (
	"fmt"
	"strings"

	"github.com/pushd/pushd/bench/load"
)

// flags is a spec as the command line of pushbench.
func flags(s load.Spec) string {
	words := []string{s.Scenario}
	add := func(set bool, name string, v any) {
		if set {
			words = append(words, "--"+name, quote(fmt.Sprint(v)))
		}
	}
	add(s.Clients > 0, "clients", s.Clients)
	add(s.Topics > 0, "topics", s.Topics)
	add(s.TopicsPerClient > 0, "topics-per-client", s.TopicsPerClient)
	add(s.InFlight > 0, "in-flight", s.InFlight)
	add(s.Payload > 0, "payload", s.Payload)
	if s.Ticks {
		words = append(words, "--ticks")
	}
	if s.Deflate {
		words = append(words, "--deflate")
	}
	add(s.Rate > 0, "rate", s.Rate)
	add(s.Messages > 0, "messages", s.Messages)
	add(s.Duration > 0, "duration", s.Duration)
	add(s.Settle > 0, "settle", s.Settle)
	add(s.Patience > 0, "patience", s.Patience)
	return strings.Join(words, " ")
}

// flagsOf is a server as the rest of that command line; what is pushd's is the default there.
func flagsOf(s server) string {
	t, standard := s.target, load.Pushd("", "")
	var words []string
	add := func(name, v, usual string) {
		if v != usual {
			words = append(words, "--"+name+"="+quote(v))
		}
	}
	add("url", t.URL, "")
	add("subprotocol", t.Protocol, standard.Protocol)
	add("hello-frame", t.Hello, "")
	add("subscribe-frame", t.Subscribe, standard.Subscribe)
	add("unsubscribe-frame", t.Unsubscribe, standard.Unsubscribe)
	add("subscribed-mark", t.SubscribedMark, standard.SubscribedMark)
	add("unsubscribed-mark", t.UnsubscribedMark, standard.UnsubscribedMark)
	add("gap-mark", t.GapMark, standard.GapMark)
	add("echo-frame", t.Echo, "")
	if t.Resume != "" {
		add("resume-frame", t.Resume, standard.Resume)
		add("cursor-mark", t.CursorMark, standard.CursorMark)
		add("epoch-mark", t.EpochMark, "")
		add("recovered-mark", t.RecoveredMark, standard.RecoveredMark)
	}
	add("publish", t.Publish, "")
	add("gc-url", s.gcURL, "")
	add("start", s.start, "")
	return strings.Join(words, " ")
}

// quote makes a word of a shell.
func quote(word string) string {
	if word != "" && !strings.ContainsAny(word, " \t\n\"'`$&|;<>()*?[]{}~#!\\") {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
