# Not run yet: this project's tests have no macOS. packaging/macos/formula.sh fills in
# what is between @ signs.
class Sidecarbon < Formula
  desc "Graphite endpoint on localhost that adds the API key and survives outages"
  version "@VERSION@"
  license any_of: ["MIT", "Apache-2.0"]

  on_arm do
    url "@URL@/sidecarbon-@VERSION@-aarch64-apple-darwin.tar.gz"
    sha256 "@ARM@"
  end
  on_intel do
    url "@URL@/sidecarbon-@VERSION@-x86_64-apple-darwin.tar.gz"
    sha256 "@INTEL@"
  end

  depends_on :macos

  def install
    bin.install "sidecarbon"
    man1.install Dir["man/*.1"]
    bash_completion.install "completions/sidecarbon.bash" => "sidecarbon"
    zsh_completion.install "completions/sidecarbon.zsh" => "_sidecarbon"
    fish_completion.install "completions/sidecarbon.fish"
    (etc/"sidecarbon").install "config/sidecarbon.toml"
    doc.install Dir["config/examples/*.toml"]
  end

  service do
    run [opt_bin/"sidecarbon", "--config", etc/"sidecarbon/sidecarbon.toml"]
    keep_alive crashed: true
    error_log_path var/"log/sidecarbon.log"
  end

  def caveats
    "Write the API key into a file, name it in #{etc}/sidecarbon/sidecarbon.toml as sink.api_key_file, " \
      "and run: sidecarbon check --config #{etc}/sidecarbon/sidecarbon.toml"
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/sidecarbon --version")
    assert_match "foo 1.2", pipe_output("#{bin}/sidecarbon explain", "foo 1.2 1700000000\n")
  end
end
