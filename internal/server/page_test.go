package server

import (
	"testing"

	"github.com/pushd/pushd/internal/browsertest"
	"github.com/pushd/pushd/internal/config"
)

// TestPageShowsTheDemo opens the page of `make run` in a real browser: values
// come, and go on coming, and what is typed into the form is published.
func TestPageShowsTheDemo(t *testing.T) {
	r := start(t, func(c *config.Config) { c.Demo = true })
	listener := r.subscribed("chat.lobby")
	browser := browsertest.Start(t)
	tab := browser.Open("http://" + r.Addr() + "/")
	tab.Want(`document.querySelector("#state").textContent.includes("live")`)
	tab.Want(`Number(document.querySelector("#count").textContent) >= 5`)
	tab.Do(`window.before = Number(document.querySelector("#count").textContent)`)
	tab.Want(`Number(document.querySelector("#count").textContent) > window.before`)
	tab.Want(`document.body.innerText.toLowerCase().includes("memory")`)
	tab.Do(`
		const form = document.querySelector("#publish");
		form.elements.topic.value = "chat.lobby";
		form.elements.message.value = '{"text":"hi"}';
		form.requestSubmit()`)
	listener.wantData("chat.lobby", `{"text":"hi"}`)
	browser.WantNoTrouble()
}
