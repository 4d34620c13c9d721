# fish completion for bsync(8)
# SPDX-License-Identifier: GPL-2.0-only

function __bsync_offers
    set --local words (commandline --current-process --tokenize --cut-at-cursor)
    set --local current (commandline --current-token --cut-at-cursor | string unescape)
    env _BSYNC_COMPLETE=1 $words[1] $words[2..-1] "$current" 2>/dev/null
end

complete --command bsync --no-files --arguments '(__bsync_offers)'
