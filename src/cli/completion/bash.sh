# shellcheck shell=bash
# bash completion for docker-cachex. The program itself names the candidates.
# "docker cachex" is completed by docker's own script.

_docker_cachex_complete() {
    local typed=${COMP_LINE:0:COMP_POINT}
    local words current='' line directive=0
    read -ra words <<<"$typed"
    # bash 3.2, that of macOS, has no negative index.
    if [[ $typed != *[[:space:]] ]]; then
        current=${words[${#words[@]} - 1]}
        unset "words[${#words[@]} - 1]"
    fi

    # What a candidate does not bring along: --flag= where the value is in the same word.
    local flag=''
    if [[ $current == --*=* ]]; then flag=${current%%=*}=; fi
    # What bash leaves as it is: up to the last character that ends a word for it.
    local kept=''
    if [[ $COMP_WORDBREAKS == *=* && $current == *=* ]]; then kept=${current%"${current##*=}"}; fi
    if [[ $COMP_WORDBREAKS == *:* && ${current#"$kept"} == *:* ]]; then kept=${current%"${current##*:}"}; fi

    COMPREPLY=()
    while IFS= read -r line; do
        if [[ $line == :[0-9]* ]]; then
            directive=${line#:}
        elif [[ $flag$line == "$current"* ]]; then
            line=$flag$line
            COMPREPLY+=("${line#"$kept"}")
        fi
    done < <("${words[0]}" __completeNoDesc "${words[@]:1}" "$current" 2>/dev/null)

    type compopt &>/dev/null || return 0
    if ((directive & 2)); then compopt -o nospace; fi
    if ((${#COMPREPLY[@]})); then return 0; fi
    if ((directive & 16)); then
        compopt -o dirnames
    elif ((!(directive & 4))); then
        compopt -o default
    fi
}

complete -F _docker_cachex_complete docker-cachex
