local groups, results = groups_of(KEYS[1]), {}
for i = 2, #ARGV do results[#results + 1] = remove(KEYS[1], groups, ARGV[1], ARGV[i]) end
return results
