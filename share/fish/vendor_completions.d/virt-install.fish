# Completion of virt-install, virt-xml and virt-clone for fish. Options and their sub-options, they themselves say.

function __guesthouse_virt_install
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l option $words[-1]
    set -l value $current
    set -l head ''
    if string match -q -- '--*=*' "$current"
        set option (string split -m 1 = -- $current)[1]
        set value (string split -m 1 = -- $current)[2]
        set head "$option="
    end
    if string match -qr -- '^--[a-zA-Z-]+$' "$option"
        set -l keys ($words[1] "$option=?" 2>/dev/null | string match -r '^  [a-zA-Z].*' | string trim)
        if test (count $keys) -gt 0
            set -l before (string match -r '^.*,' -- "$value")
            printf '%s\n' "$head$before"$keys=
            return
        end
    end
    if string match -q -- '-*' "$current"; and not string match -q -- '*=*' "$current"
        $words[1] --help 2>/dev/null | string match -r -- '^ +(?:-[a-zA-Z], )?--[a-zA-Z-]+' | string match -r -- '--.*'
    else
        __fish_complete_path "$value"
    end
end

for program in virt-install virt-xml virt-clone
    complete -c $program -f -a '(__guesthouse_virt_install)'
end
