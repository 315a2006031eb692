#compdef docker-cachex
# zsh completion for docker-cachex. The program itself names the candidates.
# "docker cachex" is completed by docker's own script: docker completion zsh

_docker-cachex() {
    local -a answer candidates space
    local line value directive
    answer=("${(@f)$("${(Q)words[1]}" __complete "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
    directive=${answer[-1]#:}
    answer[-1]=()
    for line in "${answer[@]}"; do
        value=${line%%$'\t'*}
        candidates+=("${value//:/\\:}${${line#$value}/$'\t'/:}")
    done

    # A candidate does not bring --flag= along where the value is in the same word.
    [[ $PREFIX == --*=* ]] && compset -P '--[^=]#='
    if ((directive & 2)); then space=(-S ''); fi
    if ((${#candidates})); then
        _describe 'docker-cachex' candidates "${space[@]}"
    elif ((directive & 16)); then
        _files -/
    elif ((!(directive & 4))); then
        _files
    fi
}

if [[ $funcstack[1] == _docker-cachex ]]; then
    _docker-cachex "$@"
else
    compdef _docker-cachex docker-cachex
fi
