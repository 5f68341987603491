import pushd = require("@pushd/client");

const push: pushd.Pushd = new pushd.Pushd("https://push.example.com");
push.subscribe("a", (message: pushd.Message) => message.data);
