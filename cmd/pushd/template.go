package main

import (
	"fmt"
	"strings"

	"github.com/pushd/pushd/topics"
)

// topicTemplate is a topic with fields of a record in braces, such as
// stocks.{symbol}.
type topicTemplate struct{ parts []templatePart }

// templatePart is a piece of text, then the value of a field.
type templatePart struct {
	literal string
	field   string // "" in the last part
}

func parseTemplate(text string) (topicTemplate, error) {
	var t topicTemplate
	fail := func(problem string) (topicTemplate, error) {
		return topicTemplate{}, fmt.Errorf("--topic is %q, but %s", text, problem)
	}
	example := "" // the template with a token for each field
	for rest := text; ; {
		literal, behind, found := strings.Cut(rest, "{")
		if strings.Contains(literal, "}") {
			return fail(`has a "}" with no "{" before it`)
		}
		example += literal
		if !found {
			t.parts = append(t.parts, templatePart{literal: literal})
			break
		}
		field, after, closed := strings.Cut(behind, "}")
		switch {
		case !closed:
			return fail(`has a "{" with no "}" behind it`)
		case field == "":
			return fail("names no field in {}")
		case strings.Contains(field, "{"):
			return fail(`has a "{" between braces`)
		}
		t.parts = append(t.parts, templatePart{literal, field})
		example += "x"
		rest = after
	}
	if err := topics.CheckTopic(example); err != nil {
		return fail(fmt.Sprintf("makes no topic: %v", err))
	}
	return t, nil
}

// constant reports whether the template names no field.
func (t topicTemplate) constant() bool { return len(t.parts) == 1 }

// expand returns the topic of a record, of which value returns a field. A
// value stands for one token or a piece of one: were dots let through, a
// record could choose another namespace's topic, or more tokens than a
// subscriber's pattern has.
func (t topicTemplate) expand(value func(field string) (string, error)) (string, error) {
	var topic strings.Builder
	for _, part := range t.parts {
		topic.WriteString(part.literal)
		if part.field == "" {
			break
		}
		v, err := value(part.field)
		if err != nil {
			return "", err
		}
		if topics.CheckTopic(v) != nil || strings.Contains(v, ".") {
			return "", fmt.Errorf("its field %q is %q, which cannot be a token of a topic: only A-Z a-z 0-9 _ - can", part.field, v)
		}
		topic.WriteString(v)
	}
	if err := topics.CheckTopic(topic.String()); err != nil {
		return "", err // too long, by now
	}
	return topic.String(), nil
}
