package config

import (
	"reflect"
	"strconv"
	"time"
)

// decodeText turns the checked texts of settings into the types of Config's fields.
func decodeText(from, to reflect.Type, data any) (any, error) {
	text, ok := data.(string)
	if !ok || from.Kind() != reflect.String {
		return data, nil
	}
	switch to {
	case reflect.TypeFor[Bytes]():
		return ParseBytes(text)
	case reflect.TypeFor[time.Duration]():
		return time.ParseDuration(text)
	case reflect.TypeFor[bool]():
		return strconv.ParseBool(text)
	case reflect.TypeFor[int]():
		return strconv.Atoi(text)
	}
	return data, nil
}
