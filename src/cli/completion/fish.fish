# fish completion for docker-cachex. The program itself names the candidates.
# "docker cachex" is completed by docker's own script: docker completion fish

function __docker_cachex_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l program $words[1]
    set -e words[1]
    set -l answer ($program __complete $words "$current" 2>/dev/null)
    set -l directive (string replace : '' -- $answer[-1])
    set -e answer[-1]
    if set -q answer[1]
        # A candidate does not bring --flag= along where the value is in the same word.
        set -l flag (string match -r -- '^--[^=]*=' "$current")
        for line in $answer
            echo -- "$flag$line"
        end
    else if test (math "floor($directive / 16) % 2") = 1
        __fish_complete_directories "$current"
    else if test (math "floor($directive / 4) % 2") = 0
        __fish_complete_path "$current"
    end
end

complete -c docker-cachex -f -k -a '(__docker_cachex_complete)'
