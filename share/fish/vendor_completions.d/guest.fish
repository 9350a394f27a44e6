# Completion of guest for fish. Its commands and options, guest itself says.

function __guesthouse_guest
    set -l words (commandline -opc)
    set -l above (string match -r -- '^[a-z].*' $words[2..-1])
    set -l found ($words[1] $above --help 2>/dev/null | string match -ra -- '^    [a-z][a-z-]+|--[a-z][a-z-]+' | string trim)
    if test (count $found) -gt 0
        printf '%s\n' $found
    end
end

complete -c guest -a '(__guesthouse_guest)'
