# Completion of virsh for fish. What may come next, virsh itself says: virsh complete -- WORD...

function __guesthouse_virsh
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l program $words[1]
    set -l index 2
    while test $index -le (count $words)
        switch $words[$index]
            case -c --connect
                set -a program -c $words[(math $index + 1)]
                set index (math $index + 1)
            case -d -e -k -K -l --debug --escape --keepalive-interval --keepalive-count --log
                set index (math $index + 1)
            case '--connect=*'
                set -a program -c (string replace -- --connect= '' $words[$index])
            case -r --readonly
                set -a program -r
            case --
                set index (math $index + 1)
                break
            case '-*'
            case '*'
                break
        end
        set index (math $index + 1)
    end
    set -l rest $words[$index..-1]
    if test $index -gt (count $words)
        set rest
        if string match -q -- '-*' "$current"
            printf '%s\n' --connect --debug --escape --help --keepalive-interval --keepalive-count --log --quiet \
                --readonly --timing --version
            return
        end
    end
    set -l found ($program complete -- $rest "$current" 2>/dev/null | string match -v '')
    if test (count $found) -gt 0
        printf '%s\n' $found
    else
        __fish_complete_path "$current"
    end
end

complete -c virsh -f -a '(__guesthouse_virsh)'
