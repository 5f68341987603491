package pushd_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	pushd "github.com/pushd/pushd/clients/go"
)

func readme(ctx context.Context) error {
	client, err := pushd.New("http://127.0.0.1:8080", pushd.Options{})
	if err != nil {
		return err
	}
	defer client.Close()
	sub, err := client.Subscribe(ctx, "scores.>", pushd.SubscribeOptions{})
	if err != nil {
		return err
	}
	for message, err := range sub.Messages(ctx) {
		if err != nil {
			return err // a *pushd.Gap is no end: go on behind it
		}
		fmt.Println(message.Topic, string(message.Data))
	}
	return nil
}

// The README has the body of the function above, so what is there compiles.
func TestREADME(t *testing.T) {
	ctx, cancel := context.WithCancel(testContext(t))
	cancel()
	if err := readme(ctx); err == nil {
		t.Error("it does not mind that its context is done")
	}
	text := map[string]string{}
	for _, name := range []string{"../../README.md", "readme_test.go"} {
		bytes, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text[name] = string(bytes)
	}
	_, body, _ := strings.Cut(text["readme_test.go"], "func readme(ctx context.Context) error {\n")
	body, _, _ = strings.Cut(body, "\treturn nil\n}\n")
	var want strings.Builder
	for line := range strings.Lines(body) {
		want.WriteString(strings.TrimPrefix(line, "\t"))
	}
	_, example, _ := strings.Cut(text["../../README.md"], "```go\n")
	if example, _, _ = strings.Cut(example, "```"); example != want.String() {
		t.Errorf("the README has\n%s\nand what compiles is\n%s", example, want.String())
	}
}
